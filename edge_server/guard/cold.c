/* Cold: what a body needs next and no page cache has, read ahead by somebody else.
 *
 * A read that would wait for a disk would stop every connection of this process. So it is not made: the
 * connection waits, unwatched, and whoever listens has the span read into the page cache by a process that may
 * wait, and then says `cold_go_on`. Where nobody listens, or too many spans wait to be told, the caller
 * reads itself. Spans are told once a turn of the loop at most.
 *
 * This is for what follows the first piece of a body; a body that begins cold is not begun (sending.c).
 */
#define _GNU_SOURCE
#include "guard.h"

static struct {
    ev_prepare teller;             /* never started: it is fed */
    void (*told)(void);
    struct cold spans[COLD_KEPT];
    size_t count;
} cold;

/* Tell of all spans that have come; what they hold is let go of when they have been told. */
static void tell(struct ev_loop *loop, ev_prepare *watcher, int events) {
    (void)loop;
    (void)watcher;
    (void)events;
    cold.told();
    for (size_t k = 0; k < cold.count; k++)
        file_release(cold.spans[k].file);
    cold.count = 0;
}

void cold_listen(void (*told)(void)) {
    if (cold.told == NULL)
        ev_prepare_init(&cold.teller, tell);
    cold.told = told;
}

/* What is to be told now, oldest first; valid while `told` runs. */
const struct cold *cold_spans(size_t *count) {
    *count = cold.count;
    return cold.spans;
}

static bool add(uint64_t token, struct file *file, off_t offset, uint64_t length) {
    if (cold.told == NULL || cold.count == COLD_KEPT)
        return false;
    cold.spans[cold.count++] = (struct cold){token, file_hold(file), offset, length};
    if (cold.count == 1)
        ev_feed_event(guard.loop, &cold.teller, EV_CUSTOM);
    return true;
}

void cold_prefetch(struct file *file, off_t offset, uint64_t length) {
    (void)add(0, file, offset, length);
}

uint64_t token_of(const struct conn *c) {
    return (uint64_t)c->generation << 32 | (unsigned)fd_of(c);
}

struct conn *conn_of_token(uint64_t token) {
    struct conn *c = conn_of((int)(token & 0xffffffff));
    return c != NULL && c->generation == token >> 32 ? c : NULL;
}

/* Let a connection rest until the next bytes of its body have been read ahead. */
bool cold_wait(struct conn *c) {
    if (!add(token_of(c), c->plan.file, c->plan.offset, c->plan.left))
        return false;
    c->is_cold = true;
    c->cold_ns = now_ns();
    return true;
}

/* Try again; `may_wait`: read the next piece whatever it takes. False where that connection waits no more. */
bool cold_go_on(uint64_t token, bool may_wait) {
    struct conn *c = conn_of_token(token);
    if (c == NULL || !c->is_cold)
        return false;
    c->is_cold = false;
    c->may_wait = may_wait;
    c->since_ns += now_ns() - c->cold_ns; /* the client was not slow meanwhile */
    if (c->is_repeating)
        ev_feed_event(c->loop, &c->own, EV_WRITE);
    else
        ev_feed_event(c->loop, c->watcher, EV_WRITE);
    return true;
}

/* The bytes will not come: the connection ends, as what was announced cannot be sent. */
bool cold_give_up(uint64_t token) {
    struct conn *c = conn_of_token(token);
    if (c == NULL || !c->is_cold)
        return false;
    guard.counters.cut++;
    hang_up(c);
    return true;
}
