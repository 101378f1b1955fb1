// Answers every request with a greeting.
#include <stdlib.h>

#include "http.h"

void handle(const struct http_request *request, struct http_response *response) {
    const char *greeting = getenv("GREETING");
    const char *agent = http_header(request, "user-agent");
    char name[64];

    http_set_header(response, "content-type", "text/plain; charset=utf-8");
    http_printf(response, "%s, %s!\n", greeting ? greeting : "Hello",
                http_query(request, "name", name, sizeof name) ? name : "world");
    http_printf(response, "You sent %s %s with %zu bytes by %s.\n", request->method, request->path,
                request->body_length, agent ? agent : "something unnamed");
}
