/* Accepting, watching and closing: the life of a connection as libev and bjoern see it. */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_A_TURN 256

/* Take no connection for now: too many, or the process has no descriptors left. */
void accept_pause(void) {
    if (guard.listener != NULL && !guard.is_paused) {
        guard.is_paused = true;
        guard.counters.paused_accepts++;
        ev_io_stop(guard.loop, guard.listener);
    }
}

void accept_resume(void) {
    if (guard.listener != NULL && guard.is_paused && !guard.is_stopped) {
        guard.is_paused = false;
        ev_io_start(guard.loop, guard.listener);
    }
}

static unsigned connections_open(void) {
    unsigned count = 0;
    for (int state = CONN_FRESH; state < CONN_STATES; state++)
        count += guard.counters.states[state];
    return count;
}

static bool is_out_of_room(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* An IPv4 client of an IPv6 socket is an IPv4 client. */
static void unmap(struct sockaddr_in6 *peer) {
    if (peer->sin6_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&peer->sin6_addr))
        return;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = peer->sin6_port};
    memcpy(&four.sin_addr, &peer->sin6_addr.s6_addr[12], sizeof four.sin_addr);
    memset(peer, 0, sizeof *peer);
    memcpy(peer, &four, sizeof four);
}

/* bjoern accepts one connection a turn of the loop; under load that is too few, and they would queue
 * in the kernel, where nobody knows how long they have waited. */
static void accept_again(void) {
    static unsigned turn, taken;
    if (turn != ev_iteration(guard.loop)) {
        turn = ev_iteration(guard.loop);
        taken = 0;
    }
    if (++taken < ACCEPTS_A_TURN)
        ev_feed_event(guard.loop, guard.listener, EV_READ);
}

/* Stands in for accept(2) of bjoern. */
int guard_accept(int listener, struct sockaddr *address, socklen_t *length) {
    if (connections_open() >= guard.limits.max_connections) {
        accept_pause();
        errno = EAGAIN;
        return -1;
    }
    struct sockaddr_in6 peer;
    socklen_t peer_length = sizeof peer;
    memset(&peer, 0, sizeof peer);
    int fd = accept4(listener, (struct sockaddr *)&peer, &peer_length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        int error = errno;
        if (is_out_of_room(error))
            accept_pause();
        errno = error;
        return -1;
    }
    unmap(&peer);
    if (conn_open(fd, &peer) == NULL) {
        close(fd);
        errno = EMFILE;
        return -1;
    }
    guard.counters.accepted++;
    accept_again();
    /* bjoern understands IPv4 only; guard.peer() has the real one. */
    struct sockaddr_in shown = {.sin_family = AF_INET};
    if (peer.sin6_family == AF_INET)
        memcpy(&shown, &peer, sizeof shown);
    memcpy(address, &shown, *length < sizeof shown ? *length : sizeof shown);
    *length = sizeof shown;
    return fd;
}

/* Start bjoern's watcher without making libev tell the kernel what it knows already. */
static void start_watching(struct conn *c) {
    if (c->is_registered)
        c->watcher->events &= ~EV__IOFDSET;
    c->is_registered = true;
    ev_io_start(c->loop, c->watcher);
}

void wait_readable(struct conn *c) {
    if (!ev_is_active(c->watcher))
        start_watching(c);
}

void wait_writable(struct conn *c) {
    if (!ev_is_active(c->watcher))
        start_watching(c);
}

/* Let bjoern see the end of file, and close. */
void end_soon(struct conn *c) {
    c->is_ending = true;
    ev_feed_event(c->loop, c->watcher, EV_READ);
}

/* bjoern goes back to reading: the last answer is over. */
static void turn_to_reading(struct conn *c) {
    if (c->is_parking) {
        c->is_parking = false;
        plan_drop(c);
        fields_drop(c);
        conn_enter(c, CONN_PARKED);
        start_watching(c);
        if (c->is_resumed)
            ev_feed_event(c->loop, c->watcher, EV_READ);
        return;
    }
    if (c->state == CONN_BUSY) {
        if (!answer_finish(c))
            c->is_ending = true;
        conn_enter(c, CONN_IDLE);
    }
    if (c->is_ending || c->input_used > 0) {
        c->is_starved = false;
        ev_feed_event(c->loop, c->watcher, EV_READ);
        return;
    }
    start_watching(c);
}

/* Stands in for ev_io_start of bjoern. */
void guard_start(struct ev_loop *loop, ev_io *watcher) {
    struct conn *c = conn_of(watcher->fd);
    if (c == NULL) {
        if (guard.listener == NULL) {
            guard.loop = loop;
            guard.listener = watcher;
            sweep_start(loop);
            turns_watch(loop);
        }
        ev_io_start(loop, watcher);
        return;
    }
    c->loop = loop;
    c->watcher = watcher;
    if (watcher->events & EV_WRITE)
        ev_feed_event(loop, watcher, EV_WRITE); /* almost every answer fits: try before asking */
    else
        turn_to_reading(c);
}

/* Stands in for ev_io_stop of bjoern. */
void guard_stop(struct ev_loop *loop, ev_io *watcher) {
    ev_io_stop(loop, watcher);
}

/* Whether bytes of the client's are unread: closing would then reset the connection. */
bool has_unread(const struct conn *c) {
    int waiting = 0;
    return c->input_used > 0 || (ioctl(fd_of(c), FIONREAD, &waiting) == 0 && waiting > 0);
}

/* Stands in for close(2) of bjoern. */
int guard_close(int fd) {
    struct conn *c = conn_of(fd);
    if (c == NULL)
        return close(fd);
    repeat_stop(c);
    c->watcher = NULL;
    if (c->is_parking) { /* the application has failed behind it */
        c->is_parking = false;
        guard.counters.bad_answers++;
        guard_refuse(c, 500, "internal", NULL, 0);
    }
    if (!c->is_cut && (c->wants_linger || (c->is_ending && has_unread(c)))) {
        linger_begin(c);
        return 0;
    }
    conn_release(c);
    return close(fd);
}

/* Stands in for fprintf(3) of bjoern, which tells of clients that left: counted, not printed. */
int guard_fprintf(FILE *stream, const char *format, ...) {
    (void)stream;
    (void)format;
    guard.counters.write_errors++;
    return 0;
}
