/* Stands in for _bjoern: a shared object that makes bjoern's calls through a call table of its own.
 *
 * It is compiled in each way that bjoern may be. STATIC_LIBEV has libev's functions inside, as an
 * object has that was linked with libev.a; NO_SENDFILE makes one call less than bjoern.
 */
#define _GNU_SOURCE
#include "caller.h"

#include <sys/sendfile.h>
#include <unistd.h>

#ifdef STATIC_LIBEV
#include "libev_standin.c"
#endif

/* Both kinds of data: the first follows what the loader protects, perhaps in the same page. */
static volatile unsigned touched = 1, touched_again;

static ssize_t call_read(int fd, size_t size) {
    char buffer[CALLER_READ_BYTES];
    return read(fd, buffer, size); /* a size that the compiler cannot know: fortified builds check it */
}

static int call_accept(int listener, struct sockaddr *address, socklen_t *length) {
    return accept(listener, address, length);
}

static ssize_t call_write(int fd, const void *bytes, size_t size) {
    return write(fd, bytes, size);
}

static int call_close(int fd) {
    return close(fd);
}

static ssize_t call_sendfile(int fd, int file, off_t *offset, size_t count) {
#ifdef NO_SENDFILE
    (void)fd, (void)file, (void)offset, (void)count;
    return -1;
#else
    return sendfile(fd, file, offset, count);
#endif
}

static int call_print(FILE *stream, int number) {
    return fprintf(stream, "%d\n", number);
}

static void call_start(struct ev_loop *loop, ev_io *watcher) {
    ev_io_start(loop, watcher);
}

static void call_stop(struct ev_loop *loop, ev_io *watcher) {
    ev_io_stop(loop, watcher);
}

static unsigned touch(void) {
    touched++;
    return ++touched_again;
}

static const struct calls calls = {
    .accept = call_accept,
    .read = call_read,
    .write = call_write,
    .close = call_close,
    .sendfile = call_sendfile,
    .print = call_print,
    .start = call_start,
    .stop = call_stop,
    .touch = touch,
};

__attribute__((visibility("default"))) const struct calls *caller(void) {
    return &calls;
}
