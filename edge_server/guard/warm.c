/* Warm blocks: copies of what is asked for again and again, to be sent without copying. See files.h.
 *
 * sendfile(2) leaves the pages of its source in the socket's queue, where whoever writes to a file
 * of a pack would still change what the client gets. The pages of a warm block are nobody else's,
 * and a block is let go of by closing its memory, never by writing to it again: pages that still
 * wait in a queue live, unchanged, until the client has them.
 *
 * A block is made when it is asked for the second time. Which one has to go is decided by SIEVE
 * (Zhang et al., NSDI 2024): a hand moves from the oldest to the newest, spares what was used
 * since it last came by, and takes the first that was not.
 */
#define _GNU_SOURCE
#include "files.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAP_BYTES (16 * 1024)            /* up to here a copy in the head's own sendmsg is cheaper than sendfile */
#define MADE_AT_ONCE_BYTES (8 * 1024 * 1024) /* between two calls of warm_allow: a percent or two of the time */

static struct {
    size_t limit_bytes, limit_memfds; /* what there may be */
    size_t bytes, memfds;             /* what there is */
    size_t allowed_bytes;             /* that may be made before the next warm_allow */
    struct block *newest, *oldest, *hand;
} store;

void warm_limit(size_t bytes, size_t descriptors) {
    store.limit_bytes = bytes;
    store.limit_memfds = descriptors;
    warm_allow();
}

void warm_allow(void) {
    store.allowed_bytes = MADE_AT_ONCE_BYTES;
}

size_t warm_bytes(void) {
    return store.bytes;
}

static void unlink_block(struct block *block) {
    if (store.hand == block)
        store.hand = block->newer;
    *(block->newer != NULL ? &block->newer->older : &store.newest) = block->older;
    *(block->older != NULL ? &block->older->newer : &store.oldest) = block->newer;
}

static void link_newest(struct block *block) {
    block->older = store.newest;
    *(store.newest != NULL ? &store.newest->newer : &store.oldest) = block;
    store.newest = block;
}

static void free_bytes(struct block *block) {
    if (block->memfd < 0) {
        free(block->bytes);
        return;
    }
    munmap(block->bytes, block->length);
    close(block->memfd);
}

static void drop(struct block *block) {
    unlink_block(block);
    *block->place = NULL;
    store.bytes -= block->length;
    store.memfds -= block->memfd >= 0;
    free_bytes(block);
    free(block);
}

static void evict_one(void) {
    struct block *block = store.hand != NULL ? store.hand : store.oldest;
    while (block->was_used) {
        block->was_used = false;
        block = block->newer != NULL ? block->newer : store.oldest;
    }
    store.hand = block;
    drop(block);
}

static bool map_memory(struct block *block) {
    block->memfd = memfd_create("svc-edge-warm", MFD_CLOEXEC);
    if (block->memfd < 0)
        return false;
    void *memory = MAP_FAILED;
    if (ftruncate(block->memfd, (off_t)block->length) == 0)
        memory = mmap(NULL, block->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, block->memfd, 0);
    block->bytes = memory;
    if (memory == MAP_FAILED)
        close(block->memfd);
    return memory != MAP_FAILED;
}

static bool take_memory(struct block *block) {
    if (block->length > HEAP_BYTES)
        return map_memory(block);
    block->bytes = malloc(block->length);
    return block->bytes != NULL;
}

/* NULL also where some of it is cold: then it is read ahead for the next one who asks. */
static struct block *copy(struct file *file, off_t start, size_t length) {
    struct block *block = calloc(1, sizeof *block);
    if (block == NULL)
        return NULL;
    *block = (struct block){.length = length, .memfd = -1};
    if (!take_memory(block)) {
        free(block);
        return NULL;
    }
    enum reading reading = file_read(file, block->bytes, start, length, false);
    if (reading != READ_DONE) {
        if (reading == READ_COLD)
            cold_prefetch(file, start, length);
        free_bytes(block);
        free(block);
        return NULL;
    }
    return block;
}

static bool make_room(size_t length) {
    size_t memfds = length > HEAP_BYTES;
    if (length > store.allowed_bytes || length > store.limit_bytes || memfds > store.limit_memfds)
        return false;
    while (store.bytes + length > store.limit_bytes || store.memfds + memfds > store.limit_memfds)
        evict_one();
    return true;
}

static struct block *make(struct file *file, size_t number) {
    off_t start = (off_t)number * BLOCK_BYTES;
    int64_t rest = file->identity.size - start;
    size_t length = rest < BLOCK_BYTES ? (size_t)rest : BLOCK_BYTES;
    if (!make_room(length))
        return NULL;
    store.allowed_bytes -= length;
    struct block *block = copy(file, start, length);
    if (block == NULL) {
        file->places[number].was_wanted = false; /* trying costs as much as it finds: not at each request */
        return NULL;
    }
    block->place = &file->places[number].warm;
    *block->place = block;
    store.bytes += length;
    store.memfds += block->memfd >= 0;
    link_newest(block);
    return block;
}

static size_t count_blocks(const struct file *file) {
    return (size_t)((file->identity.size + BLOCK_BYTES - 1) / BLOCK_BYTES);
}

const struct block *warm_block(struct file *file, off_t offset, bool asks, size_t *where) {
    if (store.limit_bytes == 0)
        return NULL;
    if (file->places == NULL && (file->places = calloc(count_blocks(file), sizeof *file->places)) == NULL)
        return NULL;
    size_t number = (size_t)offset / BLOCK_BYTES;
    struct place *place = &file->places[number];
    struct block *block = place->warm;
    bool was_wanted = place->was_wanted;
    place->was_wanted |= asks;
    if (block == NULL && asks && was_wanted)
        block = make(file, number);
    else if (block != NULL)
        block->was_used = true;
    *where = (size_t)offset % BLOCK_BYTES;
    return block;
}

void warm_forget(struct file *file) {
    for (size_t k = 0; file->places != NULL && k < count_blocks(file); k++)
        if (file->places[k].warm != NULL)
            drop(file->places[k].warm);
    free(file->places);
    file->places = NULL;
}
