/* Sweeping: ten times a second, every connection is measured against its limits.
 *
 * A lingering connection has been answered for the last time. bjoern has let go of it; it is
 * read and discarded until the client closes, so that the answer is not lost in a reset.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <unistd.h>

#define SWEEP_S 0.1
#define LINGER_NS 2000000000
#define LINGER_BYTES (8 << 20)
#define STALL_GRACE_NS 2000000000
#define PACE_NS 5000000000
#define SECOND_NS 1000000000

struct lingering {
    ev_io watcher; /* first: libev hands it back */
    struct conn *conn;
    size_t taken;
};

static ev_timer timer;

static void linger_read(struct ev_loop *loop, ev_io *watcher, int events) {
    static char discarded[64 * 1024];
    struct lingering *linger = (struct lingering *)watcher;
    (void)loop;
    (void)events;
    ssize_t got = recv(watcher->fd, discarded, sizeof discarded, MSG_DONTWAIT);
    if (got > 0)
        linger->taken += (size_t)got;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR) || linger->taken > LINGER_BYTES)
        linger_end(linger->conn);
}

void linger_begin(struct conn *c) {
    int fd = fd_of(c);
    struct lingering *linger = malloc(sizeof *linger);
    free(c->input);
    c->input = NULL;
    if (linger == NULL) {
        conn_release(c);
        close(fd);
        return;
    }
    shutdown(fd, SHUT_WR);
    linger->conn = c;
    linger->taken = 0;
    c->linger = linger;
    conn_enter(c, CONN_LINGER);
    ev_io_init(&linger->watcher, linger_read, fd, EV_READ);
    ev_io_start(guard.loop, &linger->watcher);
}

/* Whether the kernel holds bytes of an answer that the client has not taken. */
static bool has_unsent(int fd) {
    int unsent = 0;
    return ioctl(fd, SIOCOUTQ, &unsent) == 0 && unsent > 0;
}

/* Let close(2) drop what is queued: the kernel keeps it for minutes for a client that does not read. */
static void reset_at_close(int fd) {
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void linger_end(struct conn *c) {
    int fd = fd_of(c);
    if (has_unsent(fd))
        reset_at_close(fd);
    ev_io_stop(guard.loop, &c->linger->watcher);
    free(c->linger);
    c->linger = NULL;
    conn_release(c);
    close(fd);
}

/* Bytes of this answer that the client's side has taken. */
static uint64_t read_by_client(const struct conn *c) {
    int unsent = 0;
    if (ioctl(fd_of(c), SIOCOUTQ, &unsent) != 0 || (uint64_t)unsent > c->answer_sent)
        unsent = 0;
    return c->answer_sent - (uint64_t)unsent;
}

static bool is_too_little(uint64_t bytes, int64_t ns) {
    return bytes / (uint64_t)(ns / SECOND_NS + 1) < guard.limits.min_send_rate;
}

/* Whether a client reads its answer slower than it must: since the answer began, or in the last
 * PACE_NS alone, as what it read fast before must not let it stall for hours. */
static bool is_reading_slowly(struct conn *c, int64_t now) {
    int64_t age = now - c->since_ns - STALL_GRACE_NS;
    if (age <= 0 || c->is_cut || c->is_cold || !(c->is_repeating || ev_is_active(c->watcher)))
        return false;
    if (c->pace_ns < c->since_ns) {
        c->pace_ns = c->since_ns;
        c->pace_read = 0;
    }
    uint64_t read = read_by_client(c);
    bool is_slow = is_too_little(read, age);
    if (now - c->pace_ns >= PACE_NS) {
        is_slow |= is_too_little(read - c->pace_read, now - c->pace_ns - STALL_GRACE_NS);
        c->pace_ns = now;
        c->pace_read = read;
    }
    return is_slow;
}

/* End an answer in the middle. */
void hang_up(struct conn *c) {
    bool is_bjoern_writing = c->state == CONN_BUSY && !c->is_repeating;
    repeat_stop(c);
    plan_drop(c);
    c->is_ending = c->is_cut = true;
    reset_at_close(fd_of(c));
    shutdown(fd_of(c), SHUT_RDWR); /* bjoern's next read or write fails, and it closes */
    ev_feed_event(c->loop, c->watcher, is_bjoern_writing ? EV_WRITE : EV_READ);
}

static void time_out(struct conn *c) {
    guard_refuse(c, 408, "slow_client", NULL, 0);
    ev_feed_event(c->loop, c->watcher, EV_READ);
}

/* Whether a client has said its last word, though bytes before it are unread. Source: tcp(7), TCP_INFO. */
static bool has_left(int fd) {
    unsigned char info[8] = {TCP_ESTABLISHED};
    socklen_t length = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &length) == 0 &&
           (info[0] == TCP_CLOSE_WAIT || info[0] == TCP_CLOSE);
}

static void sweep_one(struct conn *c, int64_t now) {
    const struct guard_limits *limits = &guard.limits;
    int64_t age = now - c->since_ns;
    switch (c->state) {
    case CONN_FRESH:
    case CONN_IDLE:
        if (age > (c->state == CONN_FRESH ? limits->header_ns : limits->idle_ns)) {
            guard.counters.timed_out_idle++;
            if (has_unsent(fd_of(c)))
                hang_up(c);
            else
                end_soon(c);
        }
        break;
    case CONN_HEAD:
        if (now - c->arrived_ns > limits->header_ns) {
            guard.counters.timed_out_head++;
            time_out(c);
        }
        break;
    case CONN_BODY:
        if (age > limits->body_ns) {
            guard.counters.timed_out_body++;
            time_out(c);
        }
        break;
    case CONN_BUSY:
        if (is_reading_slowly(c, now)) {
            guard.counters.timed_out_send++;
            hang_up(c);
        }
        break;
    case CONN_PARKED:
        if (age > limits->parked_ns && !c->is_resumed) {
            c->is_resumed = true;
            ev_feed_event(c->loop, c->watcher, EV_READ);
        } else if (!c->is_resumed && !ev_is_active(c->watcher) && has_left(fd_of(c))) {
            end_soon(c);
        }
        break;
    case CONN_LINGER:
        if (age > LINGER_NS)
            linger_end(c);
        break;
    default:
        break;
    }
}

static void sweep(struct ev_loop *loop, ev_timer *watcher, int events) {
    (void)loop;
    (void)watcher;
    (void)events;
    int64_t now = now_ns();
    for (size_t fd = 0; fd < conn_table_end(); fd++) {
        struct conn *c = conn_of((int)fd);
        if (c != NULL && (!c->is_ending || c->state == CONN_BUSY || c->state == CONN_LINGER))
            sweep_one(c, now);
    }
    if (guard.is_paused)
        accept_resume();
    warm_allow();
    guard_tick();
}

void sweep_start(struct ev_loop *loop) {
    ev_timer_init(&timer, sweep, SWEEP_S, SWEEP_S);
    ev_timer_start(loop, &timer);
}
