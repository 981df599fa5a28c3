/* Files: what the guard sends bodies from, and the warm copies of their most wanted pieces.
 *
 * Process      a worker, single-threaded. No Python.
 * Owns         a descriptor each, and anonymous memory for warm blocks: at most what warm_limit says.
 * Waiting      reads wait for no disk, unless they are told that they may: what is not in the kernel's page
 *              cache is COLD, and somebody else has to read it ahead (cold.c). A file system that cannot say
 *              so (tmpfs and some overlays cannot) is read as if everything were at hand.
 * Consistency  a byte of a file counts only if the file, looked at after reading it, is still the one
 *              that was mounted. A warm block was looked at when it was made, and nobody else can write
 *              to it; it is never written again, so pages of it may stay in a socket's queue.
 */
#ifndef SVC_EDGE_FILES_H
#define SVC_EDGE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A file as it was when its pack was read; see packs/source.py. */
struct file_identity {
    int64_t size, mtime_ns;
    unsigned min_links;
};

#define BLOCK_BYTES (256 * 1024)

/* The bytes of one BLOCK_BYTES of a file; the last block of a file is shorter. */
struct block {
    char *bytes;
    size_t length;
    int memfd;                    /* holds the same bytes for sendfile(2); -1 where they are few */
    bool was_used;                /* since the hand of the eviction passed */
    struct block *newer, *older;
    struct block **place;         /* in the file that it is of */
};

/* One block of a file: its copy, if that is warm, and whether anybody has asked for it. */
struct place {
    struct block *warm;
    bool was_wanted;
};

struct file {
    int fd;                       /* owned */
    unsigned references;
    struct file_identity identity;
    struct place *places;         /* one a block; NULL before the first is asked for */
    struct answer *answers;       /* remembered ones that have their body here; see repeating.c */
    bool is_retired;              /* only bodies that are being sent still need it */
    bool cannot_tell;             /* what is cold: its file system reads in one way only */
};

/* What came of reading. */
enum reading {
    READ_DONE,
    READ_COLD,   /* it would have to wait for a disk */
    READ_FAILED, /* the file is not as it was, or cannot be read */
};

/* files.c */

/* Take over a descriptor. NULL, and the descriptor stays the caller's, without memory. */
struct file *file_new(int fd, const struct file_identity *identity);
struct file *file_hold(struct file *file);
void file_release(struct file *file); /* closes it with its last reference; NULL is allowed */
bool file_is_unchanged(const struct file *file);
/* Exactly `length` bytes at `offset`, read before the file was found unchanged. */
enum reading file_read(struct file *file, char *out, off_t offset, size_t length, bool may_wait);
/* Whether the whole of a span can be read without waiting; what cannot be told counts as at hand. */
bool file_is_at_hand(struct file *file, off_t offset, uint64_t length);
/* The same by its first and its last byte: what lies between may still turn out to be cold. */
bool file_seems_at_hand(struct file *file, off_t offset, size_t length);

/* warm.c */

void warm_limit(size_t bytes, size_t descriptors);
/* Ten times a second: blocks may be made again, as many as cost little of that time. */
void warm_allow(void);
/* The warm block that has `offset`; NULL: read the file itself. `*where` is the place of that byte in
 * it. Where somebody `asks` for it, and not for the first time, it is made, unless some of it is cold: then it is
 * read ahead, and asked for twice again. Valid until the next call. */
const struct block *warm_block(struct file *file, off_t offset, bool asks, size_t *where);
void warm_forget(struct file *file);
size_t warm_bytes(void);

/* cold.c */

/* Have a span read ahead for nobody in particular, if anybody does that. */
void cold_prefetch(struct file *file, off_t offset, uint64_t length);

#endif
