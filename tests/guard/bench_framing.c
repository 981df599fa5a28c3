/* Time of one head, as it comes from a browser, curl and wrk; and of one that is refused. */
#include "framing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name, *head;
} CASES[] = {
    {"wrk", "GET /edge/assets/world/3/4/2.mvt HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"},
    {"curl", "GET /edge/assets/a.css HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"},
    {"browser",
     "GET /edge/assets/world/7/66/42.mvt?v=20260101 HTTP/1.1\r\n"
     "Host: tiles.example.org\r\n"
     "Connection: keep-alive\r\n"
     "Pragma: no-cache\r\n"
     "Cache-Control: no-cache\r\n"
     "sec-ch-ua: \"Chromium\";v=\"124\", \"Google Chrome\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n"
     "sec-ch-ua-mobile: ?0\r\n"
     "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36\r\n"
     "sec-ch-ua-platform: \"Linux\"\r\n"
     "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\n"
     "Sec-Fetch-Site: same-site\r\n"
     "Sec-Fetch-Mode: cors\r\n"
     "Sec-Fetch-Dest: empty\r\n"
     "Referer: https://maps.example.org/\r\n"
     "Accept-Encoding: gzip, deflate, br, zstd\r\n"
     "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\r\n"},
    {"refused", "POST /edge/assets/a.css HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
};

static double now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static double best_ns(const char *head, long rounds)
{
    static char out[16384 + FRAMING_GROWTH];
    const struct framing_limits limits = {.head_bytes = 16384, .target_bytes = 8192, .fields = 100, .body_bytes = 1 << 20};
    double best = 1e9;
    for (int trial = 0; trial < 7; trial++) {
        const double start = now_ns();
        for (long i = 0; i < rounds; i++) {
            struct framing_scan scan = {0};
            struct framing_head answer;
            framing_head(head, strlen(head), &scan, &limits, out, sizeof out, &answer);
        }
        const double ns = (now_ns() - start) / (double)rounds;
        best = ns < best ? ns : best;
    }
    return best;
}

int main(int count, char **words)
{
    const long rounds = count > 1 ? atol(words[1]) : 200000;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        if (count < 3 || strcmp(words[2], CASES[i].name) == 0)
            printf("%-8s %4zu bytes %7.0f ns\n", CASES[i].name, strlen(CASES[i].head), best_ns(CASES[i].head, rounds));
    return 0;
}
