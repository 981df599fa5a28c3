/* Files: descriptors with the identity that their bytes must have. See files.h. */
#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8 /* linux/fs.h; older headers lack it */
#endif

struct file *file_new(int fd, const struct file_identity *identity) {
    struct file *file = calloc(1, sizeof *file);
    if (file != NULL)
        *file = (struct file){.fd = fd, .references = 1, .identity = *identity};
    return file;
}

struct file *file_hold(struct file *file) {
    file->references++;
    return file;
}

void file_release(struct file *file) {
    if (file == NULL || --file->references > 0)
        return;
    warm_forget(file);
    close(file->fd);
    free(file);
}

bool file_is_unchanged(const struct file *file) {
    struct stat now;
    if (fstat(file->fd, &now) != 0)
        return false;
    return now.st_size == file->identity.size && now.st_nlink >= file->identity.min_links &&
           (int64_t)now.st_mtim.tv_sec * 1000000000 + now.st_mtim.tv_nsec == file->identity.mtime_ns;
}

/* What is in the page cache of a span, from its first byte on; -1 with EAGAIN where that is cold. Any other
 * error says nothing of the bytes: preadv2 is unknown or forbidden here, or the file system does not know the flag.
 * Source: preadv2(2); the call itself, as not every libc has it. Offsets of 64 bits go in one register. */
static ssize_t read_at_hand(struct file *file, char *out, off_t offset, size_t length) {
    struct iovec part = {out, length};
    ssize_t got = syscall(SYS_preadv2, file->fd, &part, 1UL, (long)offset, 0L, RWF_NOWAIT);
    if (got < 0 && errno != EAGAIN && errno != EIO)
        file->cannot_tell = true;
    return got;
}

enum reading file_read(struct file *file, char *out, off_t offset, size_t length, bool may_wait) {
    ssize_t got = -1;
    if (!may_wait && !file->cannot_tell) {
        got = read_at_hand(file, out, offset, length);
        if (got < (ssize_t)length && (got >= 0 || errno == EAGAIN))
            return file_is_unchanged(file) ? READ_COLD : READ_FAILED;
    }
    if (got < 0)
        got = pread(file->fd, out, length, offset);
    return got == (ssize_t)length && file_is_unchanged(file) ? READ_DONE : READ_FAILED;
}

bool file_is_at_hand(struct file *file, off_t offset, uint64_t length) {
    static char piece[BLOCK_BYTES];
    while (length > 0 && !file->cannot_tell) {
        size_t wanted = length < sizeof piece ? (size_t)length : sizeof piece;
        ssize_t got = read_at_hand(file, piece, offset, wanted);
        if (got < (ssize_t)wanted)
            return got < 0 && errno != EAGAIN;
        offset += (off_t)wanted;
        length -= wanted;
    }
    return true;
}

bool file_seems_at_hand(struct file *file, off_t offset, size_t length) {
    return file_is_at_hand(file, offset, length > 0) && file_is_at_hand(file, offset + (off_t)length - 1, length > 1);
}
