/* Hooks: bjoern's calls into the C library and libev, led to the guard.
 *
 * A shared object calls out through slots that its relocations name. Those of _bjoern are
 * pointed at the guard's functions; nobody else's calls change, and bjoern itself does not.
 *
 * Source: ELF-64 object file format, System V ABI (x86-64, AArch64); dl_iterate_phdr(3).
 */
#define _GNU_SOURCE
#include "guard.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#define IS_CALL(type) ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT)
#elif defined(__aarch64__)
#define IS_CALL(type) ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT)
#else
#error "the guard knows the relocations of x86-64 and arm64 only"
#endif

struct hook {
    const char *names[3]; /* plain, and what fortified builds call instead */
    void *function;
    unsigned found;
};

static ssize_t read_checked(int fd, void *buffer, size_t size, size_t room) {
    return size <= room ? guard_read(fd, buffer, size) : -1;
}

static int fprintf_checked(FILE *stream, int flag, const char *format, ...) {
    (void)flag;
    return guard_fprintf(stream, format);
}

static struct hook hooks[] = {
    {{"accept"}, (void *)guard_accept, 0},
    {{"read"}, (void *)guard_read, 0},
    {{"write"}, (void *)guard_write, 0},
    {{"close"}, (void *)guard_close, 0},
    {{"sendfile", "sendfile64"}, (void *)guard_sendfile, 0},
    {{"ev_io_start"}, (void *)guard_start, 0},
    {{"ev_io_stop"}, (void *)guard_stop, 0},
    {{"fprintf"}, (void *)guard_fprintf, 0},
    {{"__fprintf_chk"}, (void *)fprintf_checked, 0},
    {{"__read_chk"}, (void *)read_checked, 0},
};

struct target {
    const void *base; /* of the object that bjoern's code is in */
    const char *error;
    bool is_found, is_writing;
};

static struct hook *hook_named(const char *name) {
    for (size_t k = 0; k < sizeof hooks / sizeof *hooks; k++)
        for (size_t n = 0; hooks[k].names[n] != NULL; n++)
            if (strcmp(name, hooks[k].names[n]) == 0)
                return &hooks[k];
    return NULL;
}

/* Write one slot, which may lie in pages that the loader made read-only (RELRO). */
static bool point(void **slot, void *function, bool is_relro) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)slot & ~(uintptr_t)(page - 1));
    if (is_relro && mprotect(start, page, PROT_READ | PROT_WRITE) != 0)
        return false;
    *slot = function;
    return !is_relro || mprotect(start, page, PROT_READ) == 0;
}

/* glibc relocates the dynamic section's pointers when it loads an object, musl does not. */
static const void *address(const struct dl_phdr_info *object, ElfW(Addr) value) {
    return (const void *)(value < object->dlpi_addr ? object->dlpi_addr + value : value);
}

/* Loaders protect whole pages only: a page that RELRO ends in stays writable, and bjoern's data may be in it. */
static bool is_in_relro(const struct dl_phdr_info *object, const void *slot) {
    uintptr_t mask = ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    for (int k = 0; k < object->dlpi_phnum; k++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[k];
        uintptr_t start = object->dlpi_addr + header->p_vaddr;
        uintptr_t stop = start + header->p_memsz;
        if (header->p_type == PT_GNU_RELRO && (uintptr_t)slot >= (start & mask) && (uintptr_t)slot < (stop & mask))
            return true;
    }
    return false;
}

static const ElfW(Dyn) *dynamic_section(const struct dl_phdr_info *object) {
    for (int k = 0; k < object->dlpi_phnum; k++)
        if (object->dlpi_phdr[k].p_type == PT_DYNAMIC)
            return (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[k].p_vaddr);
    return NULL;
}

/* Look at every slot; count those of the hooks and, if it is asked for, write them. */
static const char *walk(const struct dl_phdr_info *object, bool is_writing) {
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    const ElfW(Rela) *tables[2] = {NULL, NULL};
    size_t sizes[2] = {0, 0};
    const ElfW(Dyn) *entry = dynamic_section(object);
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
        case DT_SYMTAB: symbols = address(object, entry->d_un.d_ptr); break;
        case DT_STRTAB: names = address(object, entry->d_un.d_ptr); break;
        case DT_JMPREL: tables[0] = address(object, entry->d_un.d_ptr); break;
        case DT_PLTRELSZ: sizes[0] = entry->d_un.d_val; break;
        case DT_RELA: tables[1] = address(object, entry->d_un.d_ptr); break;
        case DT_RELASZ: sizes[1] = entry->d_un.d_val; break;
        default: break;
        }
    }
    if (symbols == NULL || names == NULL)
        return "its dynamic section is not understood";
    for (size_t t = 0; t < 2; t++) {
        for (size_t k = 0; tables[t] != NULL && k < sizes[t] / sizeof(ElfW(Rela)); k++) {
            const ElfW(Rela) *relocation = &tables[t][k];
            if (!IS_CALL(ELF64_R_TYPE(relocation->r_info)))
                continue;
            struct hook *hook = hook_named(names + symbols[ELF64_R_SYM(relocation->r_info)].st_name);
            void **slot = (void **)(object->dlpi_addr + relocation->r_offset);
            if (hook == NULL)
                continue;
            hook->found++;
            if (is_writing && !point(slot, hook->function, is_in_relro(object, slot)))
                return "its call table cannot be written (mprotect)";
        }
    }
    return NULL;
}

static int visit(struct dl_phdr_info *object, size_t size, void *data) {
    struct target *target = data;
    (void)size;
    const ElfW(Dyn) *section = dynamic_section(object);
    Dl_info there;
    if (section == NULL || dladdr(section, &there) == 0 || there.dli_fbase != target->base)
        return 0;
    target->is_found = true;
    target->error = walk(object, target->is_writing);
    return 1;
}

static bool is_called(const char *name) {
    const struct hook *hook = hook_named(name);
    return hook != NULL && hook->found > 0;
}

static const char *what_is_missing(void) {
    if (!is_called("accept") || !is_called("write") || !is_called("close") || !is_called("sendfile") ||
        !(is_called("read") || is_called("__read_chk")) || !(is_called("fprintf") || is_called("__fprintf_chk")))
        return "it does not call accept, read, write, close, sendfile and fprintf through its call table";
    if (!is_called("ev_io_start") || !is_called("ev_io_stop"))
        return "libev is linked into it statically; install libev (libev-dev) and rebuild bjoern from source";
    return NULL;
}

/* Nothing is written unless everything is there: what is refused is left as it was. */
const char *hooks_install(void *function_of_bjoern) {
    Dl_info there;
    if (dladdr(function_of_bjoern, &there) == 0)
        return "bjoern's code is not found in memory";
    struct target target = {.base = there.dli_fbase};
    for (size_t k = 0; k < sizeof hooks / sizeof *hooks; k++)
        hooks[k].found = 0;
    dl_iterate_phdr(visit, &target);
    if (!target.is_found)
        return "bjoern's object is not found in memory";
    const char *missing = target.error != NULL ? target.error : what_is_missing();
    if (missing != NULL)
        return missing;
    target.is_writing = true;
    dl_iterate_phdr(visit, &target);
    return target.error;
}
