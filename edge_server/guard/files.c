/* Files: descriptors with the identity that their bytes must have. See files.h. */
#define _GNU_SOURCE
#include "files.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool file_read(const struct file *file, char *out, off_t offset, size_t length) {
    return pread(file->fd, out, length, offset) == (ssize_t)length && file_is_unchanged(file);
}
