/* The heads that framing.c lets pass, read by bjoern's own parser, against a plain reading of what the client sent. */
#include "bjoern_view.h"
#include "framing.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static unsigned passed, failed;
static uint64_t seed = 99;
static const struct framing_limits LIMITS = {.head_bytes = 4000, .target_bytes = 3000, .fields = 100, .body_bytes = 1000};

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static void check(bool holds, const char *what, const char *head, size_t length)
{
    if (holds) {
        passed++;
        return;
    }
    if (failed++ < 10)
        printf("FAILED %s:\n%.*s\n", what, (int)length, head);
}

/* ---- a plain reading: slow, only right for heads that are well formed ---- */

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strcasecmp(name, *names) == 0)
            return true;
    return false;
}

static const char *const HOP_BY_HOP[] = {"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade", "HTTP2-Settings",
                                         "Transfer-Encoding", "Content-Length", "Expect", NULL};

static void environ_name(const char *name, char *out)
{
    for (; *name != '\0'; name++, out++)
        *out = *name == '-' ? '_' : *name >= 'a' && *name <= 'z' ? (char)(*name - 32) : *name;
    *out = '\0';
}

static void add(struct view *view, const char *name, const char *value)
{
    char key[256];
    environ_name(name, key);
    for (size_t i = 0; i < view->field_count; i++) {
        struct view_field *const field = &view->fields[i];
        if (strcmp(field->name, key) != 0)
            continue;
        char joined[4096];
        const char *const separator = strcmp(key, "COOKIE") == 0 ? "; " : ", ";
        const int length = snprintf(joined, sizeof joined, "%s%s%s", field->value, *field->value && *value ? separator : "", value);
        memcpy(field->value, joined, (size_t)length + 1);
        field->length = (size_t)length;
        return;
    }
    struct view_field *const field = &view->fields[view->field_count++];
    strcpy(field->name, key);
    strcpy(field->value, value);
    field->length = strlen(value);
}

static size_t decode(const char *from, size_t length, char *out)
{
    size_t size = 0;
    for (size_t i = 0; i < length; i++, size++) {
        char hex[3] = {0};
        if (from[i] == '%') {
            memcpy(hex, from + i + 1, 2);
            i += 2;
        }
        out[size] = *hex ? (char)strtol(hex, NULL, 16) : from[i];
    }
    return size;
}

/* `nominated`: the one field name that the generator puts into Connection. */
static void read_plainly(const char *head, struct view *view, const char *nominated)
{
    static char text[8192];
    strcpy(text, head);
    memset(view, 0, offsetof(struct view, fields));
    char *line = text;
    while (strncmp(line, "\r\n", 2) == 0)
        line += 2;
    char *next = strstr(line, "\r\n");
    *next = '\0';
    char *target = strchr(line, ' ');
    *target++ = '\0';
    *strchr(target, ' ') = '\0';
    strcpy(view->method, line);
    char authority[1024] = "";
    if (*target != '/' && *target != '*') {
        target = strstr(target, "://") + 3;
        const size_t length = strcspn(target, "/?");
        memcpy(authority, target, length);
        target += length;
    }
    char *query = strchr(target, '?');
    if (query != NULL) {
        *query++ = '\0';
        view->query_length = (size_t)sprintf(view->query, "%s%s", *query == '?' ? "%3F" : "", *query == '?' ? query + 1 : query);
    }
    view->path_length = decode(target, strlen(target), view->path);
    if (*target == '\0')
        view->path_length = (size_t)sprintf(view->path, strcmp(line, "OPTIONS") == 0 && query == NULL ? "*" : "/");
    if (*authority)
        add(view, "Host", authority);
    for (line = next + 2; strncmp(line, "\r\n", 2) != 0; line = next + 2) {
        next = strstr(line, "\r\n");
        *next = '\0';
        char *value = strchr(line, ':');
        *value++ = '\0';
        value += strspn(value, " \t");
        for (size_t length = strlen(value); length > 0 && strchr(" \t", value[length - 1]); length--)
            value[length - 1] = '\0';
        const bool dropped = is_one_of(line, HOP_BY_HOP) || strchr(line, '_') || strcasecmp(line, nominated) == 0 ||
                             (*authority && strcasecmp(line, "Host") == 0);
        if (!dropped)
            add(view, line, value);
    }
}

static bool are_same(const struct view *a, const struct view *b)
{
    bool same = strcmp(a->method, b->method) == 0 && a->path_length == b->path_length && a->query_length == b->query_length &&
                memcmp(a->path, b->path, a->path_length) == 0 && memcmp(a->query, b->query, a->query_length) == 0 &&
                a->field_count == b->field_count;
    for (size_t i = 0; same && i < a->field_count; i++)
        same = strcmp(a->fields[i].name, b->fields[i].name) == 0 && a->fields[i].length == b->fields[i].length &&
               memcmp(a->fields[i].value, b->fields[i].value, a->fields[i].length) == 0;
    return same;
}

static struct view seen, meant;

/* Returns whether the head is let through; checks that bjoern then sees what was meant. */
static bool check_seen(const char *head, const char *nominated)
{
    struct framing_scan scan = {0};
    struct framing_head answer;
    static char out[4096];
    const size_t length = strlen(head);
    if (framing_head(head, length, &scan, &LIMITS, out, sizeof out, &answer) != FRAMING_DONE)
        return false;
    check(answer.consumed == length, "consumed", head, length);
    check(view_parse(out, answer.length, &seen), "bjoern takes exactly one request", out, answer.length);
    read_plainly(head, &meant, nominated);
    check(!seen.overflow && are_same(&seen, &meant), "bjoern sees what was meant", head, length);
    return true;
}

/* ---- generated heads ---- */

static const char *const METHODS[] = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "COPY", "LOCK", "MKCOL",
                                      "MOVE", "PROPFIND", "PROPPATCH", "UNLOCK", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE",
                                      "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE"};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void check_methods(void)
{
    char head[128];
    for (size_t i = 0; i < COUNT(METHODS); i++) {
        sprintf(head, "%s /a HTTP/1.1\r\nHost: a\r\n\r\n", METHODS[i]);
        check(check_seen(head, ""), "method", head, strlen(head));
        sprintf(head, "%sX /a HTTP/1.1\r\nHost: a\r\n\r\n", METHODS[i]);
        check(!check_seen(head, ""), "method and a letter", head, strlen(head));
    }
}

/* bjoern decodes the path: every escape, in both cases, first, in the middle, last, alone, in a row. */
static void check_escapes(void)
{
    static const char *const places[] = {"/%s", "/%s/", "/a%sb", "/a/%s", "/%s%s", "/%%41%s", "/%s?q", "/%s?%s", "http://b/%s", "http://b/%s?%s"};
    char head[256], target[128], escape[4];
    for (int byte = 0; byte < 256; byte++)
        for (size_t i = 0; i < 2 * COUNT(places); i++) {
            sprintf(escape, i % 2 ? "%%%02x" : "%%%02X", (unsigned)byte);
            snprintf(target, sizeof target, places[i / 2], escape, escape);
            sprintf(head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
            check(check_seen(head, ""), "escape", head, strlen(head));
        }
}

/* Everything that http_parser's states look for in names, and one letter less or more. */
static void check_names(void)
{
    static const char *const words[] = {"C", "Co", "Con", "Connection", "Content-Length", "Content-Type", "Proxy-Connection", "Transfer-Encoding",
                                        "Upgrade", "Upgrade-Insecure-Requests", "TE", "Expect", "Trailer", "Keep-Alive", "HTTP2-Settings"};
    static const char *const values[] = {"", "chunked", "close", "keep-alive", "x", "chunked ", "100-continue", "\tclose"};
    char head[256];
    for (size_t i = 0; i < COUNT(words); i++)
        for (size_t v = 0; v < COUNT(values); v++)
            for (int edit = -1; edit <= 1; edit++) {
                sprintf(head, "GET /a HTTP/1.1\r\nHost: a\r\n%.*s%s:%s\r\nAfter: it\r\n\r\n",
                        (int)strlen(words[i]) + (edit < 0 ? -1 : 0), words[i], edit > 0 ? "x" : "", values[v]);
                check_seen(head, "");
                passed++;
            }
}

static const char *pick(const char *const *words, size_t count)
{
    return words[any((uint32_t)count)];
}
#define PICK(words) pick(words, COUNT(words))

static size_t generate(char *head)
{
    static const char *const schemes[] = {"", "", "", "http://b", "https://[::1]:8443", "HTTP://c.example:80"};
    static const char *const pieces[] = {"/", "a", "%41", "%2f", "%00x" + 4, "b.c", "[x]", "|", "~", ";d=1", "%ff", "%20", "@", ":"};
    static const char *const queries[] = {"", "?", "?a", "??", "???b", "?a=%41", "?{}`\\", "?a?b", "?%3f"};
    static const char *const versions[] = {"1.1", "1.1", "1.0"};
    static const char *const spaces[] = {"", " ", "  ", "\t", " \t "};
    static const char *const names[] = {"Accept", "accept", "Accept-Encoding", "X-A", "x-a", "X-B", "Cookie", "COOKIE", "Via", "TE", "Upgrade",
                                        "X_A", "Keep-Alive", "Sec-Fetch-Mode", "Sec-Fetch-Site", "!#$%&'*+-.^`|~", "Upgrade-Insecure-Requests"};
    static const char *const singles[] = {"Range", "If-Range", "Origin", "Content-Type", "Authorization", "If-Modified-Since"};
    static const char *const values[] = {"", "a", "b, c", "\"d\"", "e:f", "\x80\xff", "g h\ti", "*/*;q=0.5", "gzip", "W/\"x\""};
    static const char *const connections[] = {"keep-alive", "x-a", "foo, X-A", "close,,x-a", "Keep-Alive , accept, x-a"};
    static const char *const bodies[] = {"", "", "", "Content-Length: 3\r\n", "Content-Length:0\r\n", "Transfer-Encoding: chunked\r\n",
                                         "Expect: 100-continue\r\nContent-Length: 1000\r\n"};
    const char *const scheme = PICK(schemes);
    char *out = head;
    for (uint32_t lines = any(8) == 0 ? 1 + any(4) : 0; lines > 0; lines--)
        out += sprintf(out, "\r\n");
    out += sprintf(out, "%s %s", PICK(METHODS), scheme);
    if (*scheme == '\0' || any(3)) {
        out += sprintf(out, "/");
        for (uint32_t count = any(6); count > 0; count--)
            out += sprintf(out, "%s", PICK(pieces));
    }
    out += sprintf(out, "%s HTTP/%s\r\n", PICK(queries), PICK(versions));
    const uint32_t host_at = any(4);
    uint32_t fields = 4 + any(12);
    size_t used[COUNT(singles)] = {0};
    for (uint32_t i = 0; i < fields; i++) {
        if (i == host_at)
            out += sprintf(out, "%s:%sexample.org%s\r\n", any(2) ? "Host" : "hOST", PICK(spaces), PICK(spaces));
        const size_t single = any(COUNT(singles));
        const char *const name = any(4) == 0 && !used[single]++ ? singles[single] : PICK(names);
        out += sprintf(out, "%s:%s%s%s\r\n", name, PICK(spaces), PICK(values), PICK(spaces));
    }
    out += sprintf(out, "%s", PICK(bodies));
    return (size_t)(sprintf(out, "Connection:%s%s\r\n\r\n", PICK(spaces), PICK(connections) ) + (out - head));
}

static void check_generated(void)
{
    static char head[4096];
    unsigned through = 0;
    for (unsigned round = 0; round < 30000; round++) {
        generate(head);
        const bool nominates = strcasestr(strstr(head, "\r\nConnection:"), "x-a") != NULL;
        through += check_seen(head, nominates ? "X-A" : "");
    }
    printf("%u of 30000 generated heads pass\n", through);
    check(through > 25000, "most generated heads are right", "", 0);
}

int main(void)
{
    check_methods();
    check_escapes();
    check_names();
    check_generated();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
