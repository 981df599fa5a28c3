/* hooks.c by itself: a stand-in for bjoern is loaded, and its calls are led away or are not.
 *
 *     test_hooks guarded CALLER BYSTANDER     every call of the caller arrives here, the bystander's none
 *     test_hooks refused CALLER WORDS         the refusal says WORDS, and nothing was changed
 *
 * Built for each platform, with its own loader; the functions of the guard only note that they
 * were called. The loader's protection of the caller's pages must be the same afterwards.
 */
#define _GNU_SOURCE
#include "caller.h"
#include "guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition) check((condition), #condition, __LINE__)
#define RESULT 4711 /* of every function here that returns something */
#define MAPS_BYTES (256 * 1024)

enum call { ACCEPT, READ, WRITE, CLOSE, SENDFILE, PRINT, START, STOP, CALLS };

static unsigned noted[CALLS];
static int passed, failed;

static void check(bool holds, const char *condition, int line) {
    if (holds) {
        passed++;
        return;
    }
    failed++;
    printf("line %d: %s\n", line, condition);
}

/* The guard, as far as hooks.c knows it. */

int guard_accept(int listener, struct sockaddr *address, socklen_t *length) {
    CHECK(listener == 5 && address == NULL && length == NULL);
    noted[ACCEPT]++;
    return RESULT;
}

ssize_t guard_read(int fd, void *buffer, size_t size) {
    CHECK(fd == 5 && buffer != NULL && size == CALLER_READ_BYTES);
    noted[READ]++;
    return RESULT;
}

ssize_t guard_write(int fd, const void *buffer, size_t length) {
    CHECK(fd == 5 && length == 4 && memcmp(buffer, "four", 4) == 0);
    noted[WRITE]++;
    return RESULT;
}

int guard_close(int fd) {
    CHECK(fd == 5);
    noted[CLOSE]++;
    return RESULT;
}

ssize_t guard_sendfile(int fd, int file, off_t *offset, size_t count) {
    CHECK(fd == 5 && file == 6 && offset == NULL && count == (size_t)1 << 40);
    noted[SENDFILE]++;
    return RESULT;
}

int guard_fprintf(FILE *stream, const char *format, ...) {
    CHECK(stream == stderr && strcmp(format, "%d\n") == 0);
    noted[PRINT]++;
    return RESULT;
}

void guard_start(struct ev_loop *loop, ev_io *watcher) {
    CHECK(loop == NULL && watcher->fd == 5);
    noted[START]++;
}

void guard_stop(struct ev_loop *loop, ev_io *watcher) {
    CHECK(loop == NULL && watcher->fd == 5);
    noted[STOP]++;
}

static bool were_noted(unsigned times) {
    for (int call = 0; call < CALLS; call++)
        if (noted[call] != times)
            return false;
    return true;
}

/* What the calls do. */

static void call_all(const struct calls *calls) {
    ev_io watcher;
    memset(&watcher, 0, sizeof watcher);
    watcher.fd = 5;
    CHECK(calls->accept(5, NULL, NULL) == RESULT);
    CHECK(calls->read(5, CALLER_READ_BYTES) == RESULT);
    CHECK(calls->write(5, "four", 4) == RESULT);
    CHECK(calls->close(5) == RESULT);
    CHECK(calls->sendfile(5, 6, NULL, (size_t)1 << 40) == RESULT);
    CHECK(calls->print(stderr, 1) == RESULT);
    calls->start(NULL, &watcher);
    CHECK(watcher.active == 0);
    calls->stop(NULL, &watcher);
}

/* See that calls reach the kernel, the C library and libev. */
static void call_really(const struct calls *calls) {
    int ends[2];
    ev_io watcher;
    char *told = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&told, &length);
    memset(&watcher, 0, sizeof watcher);
    CHECK(pipe(ends) == 0 && stream != NULL);
    CHECK(calls->write(ends[1], "four", 4) == 4);
    CHECK(calls->read(ends[0], CALLER_READ_BYTES) == 4);
    CHECK(calls->close(ends[0]) == 0 && fcntl(ends[0], F_GETFD) == -1);
    CHECK(calls->accept(ends[1], NULL, NULL) == -1 && errno == ENOTSOCK);
    CHECK(calls->sendfile(-1, -1, NULL, 1) == -1);
    CHECK(calls->print(stream, 1234) == 5);
    CHECK(fclose(stream) == 0 && strcmp(told, "1234\n") == 0);
    calls->start(NULL, &watcher);
    CHECK(watcher.active == 1);
    calls->stop(NULL, &watcher);
    CHECK(watcher.active == 0);
    CHECK(close(ends[1]) == 0);
    free(told);
}

/* Return the lines of /proc/self/maps that are of one object: addresses and protection. */
static char *mapped(const char *path) {
    static char all[MAPS_BYTES];
    char *found = calloc(1, sizeof all);
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(found != NULL && maps != NULL);
    while (fgets(all, sizeof all, maps) != NULL)
        if (strstr(all, path) != NULL)
            strcat(found, all);
    CHECK(fclose(maps) == 0);
    CHECK(strstr(found, "r-x") != NULL);
    return found;
}

static const struct calls *load(const char *path) {
    void *object = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (object == NULL) {
        printf("%s\n", dlerror());
        exit(2);
    }
    const struct calls *(*function)(void) = (const struct calls *(*)(void))dlsym(object, "caller");
    CHECK(function != NULL);
    return function();
}

static const char *install(const struct calls *calls) {
    return hooks_install((void *)calls->touch);
}

static void test_a_caller_is_guarded(const char *path, const char *bystander_path) {
    const struct calls *calls = load(path), *bystander = load(bystander_path);
    ev_io watcher;
    memset(&watcher, 0, sizeof watcher);
    calls->start(NULL, &watcher); /* some slots have been used, others have not */
    CHECK(calls->close(-1) == -1 && calls->touch() == 1);
    char *before = mapped(path);
    for (unsigned times = 1; times <= 3; times++) { /* again changes nothing */
        CHECK(install(calls) == NULL);
        call_all(calls);
        CHECK(were_noted(times));
    }
    char *after = mapped(path);
    CHECK(strcmp(before, after) == 0);
    CHECK(calls->touch() == 2);
    call_really(bystander);
    CHECK(close(-1) == -1 && write(-1, "", 1) == -1);
    CHECK(were_noted(3));
    free(before);
    free(after);
}

static void test_a_caller_is_refused(const char *path, const char *words) {
    const struct calls *calls = load(path);
    char *before = mapped(path);
    const char *error = install(calls);
    CHECK(error != NULL && strstr(error, words) != NULL);
    char *after = mapped(path);
    CHECK(strcmp(before, after) == 0);
    call_really(calls);
    CHECK(calls->touch() == 1);
    CHECK(were_noted(0));
    free(before);
    free(after);
}

static void test_what_is_in_no_object_is_refused(void) {
    void *nowhere = malloc(1);
    const char *error = hooks_install(nowhere);
    CHECK(error != NULL && strcmp(error, "bjoern's code is not found in memory") == 0);
    free(nowhere);
}

int main(int count, char **words) {
    if (count != 4)
        return 2;
    test_what_is_in_no_object_is_refused();
    if (strcmp(words[1], "guarded") == 0)
        test_a_caller_is_guarded(words[2], words[3]);
    else
        test_a_caller_is_refused(words[2], words[3]);
    printf("%d passed, %d failed, pages of %ld bytes\n", passed, failed, sysconf(_SC_PAGESIZE));
    return failed != 0;
}
