/* Pressing: how long requests wait until it is their turn, and how many are being answered.
 *
 * A turn of the loop takes what was ready when it began, so a request has waited since then at
 * least. One that waited longer than `patience` is late. When requests have been late for an
 * interval and no turn between had none, late requests are to be shed, until an interval has
 * passed without any (after RFC 8289: one long wait is a spike, what matters is what stands).
 * A wait of which this process spent less than half a patience working is others' doing, and no
 * reason to refuse anybody.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <limits.h>
#include <time.h>

static struct {
    ev_check begin;
    struct conn *last;     /* whose request was looked at last in this turn */
    int64_t began_ns;
    int64_t cpu_began_ns;  /* of this thread; -1 while nobody is late, as asking costs a system call */
    int64_t waited_ns;     /* the longest wait of a request in this turn; -1 where there was none */
    int64_t least_ns;      /* the least of these over the turns since it was last asked for; -1 for none */
    int64_t late_since_ns; /* when the first of a row of late requests was met; 0 while there is no row */
    int64_t late_last_ns;
    int64_t patience_ns, interval_ns;
    unsigned room;
    bool is_shedding;
} turns = {.waited_ns = -1, .least_ns = -1, .patience_ns = INT64_MAX, .room = UINT_MAX};

static int64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void note_late(int64_t now) {
    if (turns.late_since_ns == 0)
        turns.late_since_ns = now;
    turns.late_last_ns = now;
    if (now - turns.late_since_ns > turns.interval_ns)
        turns.is_shedding = true;
}

/* Before any request of a turn: what did the last one tell? One without requests tells nothing. */
static void turn_begins(struct ev_loop *loop, ev_check *watcher, int events) {
    (void)loop;
    (void)watcher;
    (void)events;
    turns.began_ns = now_ns();
    turns.cpu_began_ns = turns.late_since_ns != 0 ? cpu_ns() : -1;
    bool is_in_time = turns.waited_ns >= 0 && turns.waited_ns <= turns.patience_ns;
    if (turns.waited_ns >= 0 && (turns.least_ns < 0 || turns.waited_ns < turns.least_ns))
        turns.least_ns = turns.waited_ns;
    turns.waited_ns = -1;
    turns.last = NULL;
    bool is_long_ago = turns.began_ns - turns.late_last_ns > turns.interval_ns;
    if (is_long_ago || (is_in_time && !turns.is_shedding)) {
        turns.late_since_ns = 0;
        turns.is_shedding = false;
    }
}

void turns_watch(struct ev_loop *loop) {
    ev_check_init(&turns.begin, turn_begins);
    ev_set_priority(&turns.begin, EV_MAXPRI);
    ev_check_start(loop, &turns.begin);
}

/* Whether the process was kept off its CPU for most of the wait: refusing requests would not help. */
static bool has_worked_little(void) {
    return turns.cpu_began_ns >= 0 && cpu_ns() - turns.cpu_began_ns < turns.patience_ns / 2;
}

static bool is_late(struct conn *c) {
    bool is_behind_itself = c == turns.last; /* pipelined: it has waited for nobody else */
    int64_t waited = turns.began_ns == 0 || is_behind_itself ? 0 : c->since_ns - turns.began_ns;
    if (waited > turns.waited_ns)
        turns.waited_ns = waited;
    if (waited <= turns.patience_ns || has_worked_little())
        return false;
    note_late(c->since_ns);
    return turns.is_shedding;
}

static enum pressure look_at(struct conn *c) {
    bool is_crowded = guard.counters.states[CONN_BUSY] + guard.counters.states[CONN_PARKED] > turns.room;
    return (is_crowded ? PRESSURE_ROOM : 0) | (is_late(c) ? PRESSURE_LATE : 0);
}

enum pressure pressure_on(struct conn *c) {
    if (c->is_replay)
        return PRESSURE_REPLAY;
    enum pressure pressed = look_at(c);
    turns.last = c;
    return pressed;
}

/* The same for a request that the application is not asked about unless it is pressed. */
bool is_pressed(struct conn *c) {
    enum pressure pressed = look_at(c);
    if (pressed == 0)
        turns.last = c;
    return pressed != 0;
}

void pressure_set(unsigned room, int64_t patience_ns, int64_t interval_ns) {
    turns.room = room;
    turns.patience_ns = patience_ns;
    turns.interval_ns = interval_ns;
}

bool is_shedding(void) {
    return turns.is_shedding;
}

/* The least, over the turns since the last call, of the longest wait in a turn. */
int64_t take_least_wait(void) {
    int64_t least = turns.least_ns >= 0 ? turns.least_ns : turns.waited_ns > 0 ? turns.waited_ns : 0;
    turns.least_ns = -1;
    return least;
}
