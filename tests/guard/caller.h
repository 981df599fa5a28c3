/* What caller.c offers: one function for each call that bjoern makes. */
#ifndef SVC_EDGE_CALLER_H
#define SVC_EDGE_CALLER_H

#include <ev.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

struct calls {
    int (*accept)(int listener, struct sockaddr *address, socklen_t *length);
    ssize_t (*read)(int fd, size_t size);
    ssize_t (*write)(int fd, const void *bytes, size_t size);
    int (*close)(int fd);
    ssize_t (*sendfile)(int fd, int file, off_t *offset, size_t count);
    int (*print)(FILE *stream, int number);
    void (*start)(struct ev_loop *loop, ev_io *watcher);
    void (*stop)(struct ev_loop *loop, ev_io *watcher);
    unsigned (*touch)(void); /* write its own data; return how often that was done */
};

#define CALLER_READ_BYTES 64

/* The only symbol; its result is constant. */
const struct calls *caller(void);

#endif
