/* Canvases that the contract plugin composes, beside those of Celery. */
#include "check.h"
#include "taskhost.h"
#include "taskhost_test.h"

/* The same value: the order of an object's members is nobody's business. */
static bool same(th_call *call, th_json a, th_json b) {
    th_kind kind = th_json_kind(a);
    double x, y;
    if (kind == TH_INT || kind == TH_FLOAT) {
        return th_json_double(a, &x) && th_json_double(b, &y) && x == y;
    }
    if (kind != th_json_kind(b)) {
        return false;
    }
    if (kind == TH_STRING) {
        return strcmp(th_json_str(call, a, NULL), th_json_str(call, b, NULL)) == 0;
    }
    if (kind != TH_ARRAY && kind != TH_OBJECT) {
        return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
    }
    if (th_json_count(a) != th_json_count(b)) {
        return false;
    }
    size_t index = 0;
    for (th_items it = th_json_items(a); th_next(&it); index++) {
        th_json other = kind == TH_ARRAY ? th_json_at(b, index) : th_json_get(b, th_json_str(call, it.key, NULL));
        if (!same(call, it.value, other)) {
            return false;
        }
    }
    return true;
}

static th_json expected;

TASKHOST_TASK(compare, "t.compare", .params = "canvas: dict") {
    th_json canvas = th_arg(call, "canvas");
    th_sig read = th_sig_read(call, canvas);
    th_json again = read == NULL ? (th_json){NULL, 0} : th_sig_json(read);
    return th_bool(call, same(call, canvas, expected) && same(call, again, expected));
}

TASKHOST_TASK(broken, "t.broken", .params = "map") {
    return th_sig_read(call, th_arg(call, "map")) == NULL ? TH_FAILED(call) : th_null(call);
}

static void what_is_no_signature_is_refused(void) {
    static const char *const cases[][2] = {
        {"[]", "not a signature: no JSON object"},
        {"{}", "not a signature: it names no task"},
        {"{\"task\": 1}", "not a signature: it names no task"},
        {"{\"task\": \"t\", \"subtask_type\": \"ring\"}", "a signature of an unknown kind: \"ring\""},
        {"{\"task\": \"t\", \"args\": {}}", "a signature whose args are no array"},
        {"{\"task\": \"t\", \"options\": {\"link\": [1]}}", "not a signature: no JSON object"},
        {"{\"task\": \"celery.chain\", \"subtask_type\": \"chain\"}", "a chain without tasks"},
        {"{\"task\": \"celery.map\", \"subtask_type\": \"xmap\", \"kwargs\": {\"task\": {\"task\": \"a\"}, \"it\": 1}}", "a xmap over no list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char args[256];
        snprintf(args, sizeof args, "[%s]", cases[i][0]);
        th_tested *tested = th_test("t.broken", args, NULL);
        IS(tested->message, cases[i][1]);
        th_test_free(tested);
    }
}

void canvases_are_composed_as_celery_does(const char *file);

void canvases_are_composed_as_celery_does(const char *file) {
    static char text[1 << 20];
    FILE *stream = fopen(file, "rb");
    TRUE(stream != NULL);
    size_t length = fread(text, 1, sizeof text - 1, stream), compared = 0;
    fclose(stream);
    for (th_items it = th_json_items((th_json){text, length}); th_next(&it); compared++) {
        char args[256];
        snprintf(args, sizeof args, "[%.*s]", (int)it.key.length, it.key.text);
        th_tested *composed = th_test("contract.compose", args, NULL);
        IS(composed->state, "SUCCESS");
        char *canvas = malloc(strlen(composed->result) + 3);
        sprintf(canvas, "[%s]", composed->result);
        expected = it.value;
        th_tested *tested = th_test("t.compare", canvas, NULL);
        if (strcmp(tested->result, "true") != 0) {
            fprintf(stderr, "%s:\n%s\n", args, canvas);
        }
        IS(tested->result, "true");
        th_test_free(tested);
        th_test_free(composed);
        free(canvas);
    }
    TRUE(compared >= 19);
    what_is_no_signature_is_refused();
}
