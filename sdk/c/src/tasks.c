/* The tasks of the plugin, and what is said of them to the host. */
#include "internal.h"

#include <string.h>

#define BIT(kind) (1u << (kind))

static th_entry *first, *last;

void th_register(th_entry *entry) {
    *(last == NULL ? &first : &last->next) = entry;
    last = entry;
}

const th_entry *first_task(void) { return first; }

const th_entry *find_task(text name) {
    for (const th_entry *entry = first; entry != NULL; entry = entry->next) {
        if (strlen(entry->task->name) == name.length && memcmp(entry->task->name, name.data, name.length) == 0) {
            return entry;
        }
    }
    return NULL;
}

void check_tasks(void) {
    if (first == NULL) {
        panic("this plugin has no tasks: declare one with TASKHOST_TASK(function, \"name\") { .. }");
    }
    for (const th_entry *entry = first; entry != NULL; entry = entry->next) {
        for (const th_entry *other = entry->next; other != NULL; other = other->next) {
            if (strcmp(entry->task->name, other->task->name) == 0) {
                panic("two tasks have the name `%s`: %s:%d and %s:%d", entry->task->name, entry->file, entry->line, other->file,
                      other->line);
            }
        }
    }
}

/* ---- Arguments as a JSON Schema --------------------------------------------------------------------------------- */

static void put_types(th_writer *writer, unsigned types) {
    static const char *const names[] = {NULL, "null", "boolean", "integer", "number", "string", "array", "object"};
    const unsigned any = BIT(TH_OBJECT + 1) - BIT(TH_NULL);
    if (types == any) {
        return;
    }
    if ((types & BIT(TH_FLOAT)) != 0) {
        types &= ~BIT(TH_INT); /* `number` says both */
    }
    bool is_one = (types & (types - 1)) == 0;
    th_key(writer, "type");
    if (!is_one) {
        th_begin_array(writer);
    }
    for (unsigned kind = TH_BOOL; kind <= TH_OBJECT + 1; kind++) {
        unsigned shown = kind > TH_OBJECT ? (unsigned)TH_NULL : kind; /* null comes last */
        if ((types & BIT(shown)) != 0) {
            th_put_str(writer, names[shown]);
        }
    }
    if (!is_one) {
        th_end(writer);
    }
}

const char *describe_arguments(th_call *call, const th_entry *entry) {
    params params = read_params(call, entry);
    th_writer writer = th_write(call);
    th_begin_object(&writer);
    th_key(&writer, "type");
    th_put_str(&writer, "object");
    th_key(&writer, "properties");
    th_begin_object(&writer);
    for (size_t i = 0; i < params.count; i++) {
        const param *param = &params.list[i];
        th_key_text(&writer, param->name, param->name_length);
        th_begin_object(&writer);
        put_types(&writer, param->types);
        if (!param->required) {
            th_key(&writer, "default");
            th_put(&writer, param->missing);
        }
        th_end(&writer);
    }
    th_end(&writer);
    th_key(&writer, "required");
    th_begin_array(&writer);
    for (size_t i = 0; i < params.count; i++) {
        if (params.list[i].required) {
            th_put_text(&writer, params.list[i].name, params.list[i].name_length);
        }
    }
    th_end(&writer);
    th_key(&writer, "additionalProperties");
    th_put_bool(&writer, params.takes_keywords);
    if (params.takes_rest || params.positional < params.count) {
        th_key(&writer, "x-args");
        th_put_uint(&writer, params.positional);
    }
    th_end(&writer);
    th_json schema = th_written(&writer);
    return copy(call, schema.text, schema.length);
}

/* ---- Options ---------------------------------------------------------------------------------------------------- */

#define OPTIONS_MAX 64

/* The options that have been found so far. */
typedef struct found {
    th_call *call;
    option *list;
    size_t count;
} found;

static void add(found *found, text name, th_json value) {
    if (found->count == OPTIONS_MAX) {
        panic("a task has more than %d options", OPTIONS_MAX);
    }
    found->list[found->count++] = (option){name, value};
}

static void add_number(found *found, const char *name, double value) {
    if (value == TH_NONE) {
        add(found, text_of(name), json_of("null"));
    } else if (value >= 0) {
        /* A count is written as one. */
        bool is_whole = value < 1e15 && value == (double)(int64_t)value;
        add(found, text_of(name),
            is_whole ? th_jsonf(found->call, "%lld", (long long)value) : th_jsonf(found->call, "%g", value));
    }
}

static void add_flag(found *found, const char *name, int value) {
    if (value != -1) {
        add(found, text_of(name), json_of(value == TH_NONE ? "null" : value != 0 ? "true" : "false"));
    }
}

static void add_text(found *found, const char *name, const char *value) {
    if (value != NULL) {
        add(found, text_of(name), json_text(found->call, value, strlen(value)));
    }
}

/* Names with commas between them. */
static void add_names(found *found, const char *name, const char *value) {
    if (value == NULL) {
        return;
    }
    th_writer writer = th_write(found->call);
    th_begin_array(&writer);
    for (const char *at = value; *at != 0;) {
        size_t length = strcspn(at, ", ");
        if (length > 0) {
            th_put_text(&writer, at, length);
        }
        at += length;
        at += strspn(at, ", ");
    }
    th_end(&writer);
    add(found, text_of(name), th_written(&writer));
}

/* `.options` has text in single quotes as formats have it, and no conversions. */
static th_json others(th_call *call, const th_task *task) {
    size_t length = strlen(task->options), size = 0;
    char *format = arena_take(call->arena, 2 * length + 1, 1);
    for (size_t i = 0; i < length; i++) {
        format[size++] = task->options[i];
        if (task->options[i] == '%') {
            format[size++] = '%';
        }
    }
    format[size] = 0;
    th_json json;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    json = th_jsonf(call, format);
#pragma GCC diagnostic pop
    size_t at = 0;
    const char *fault = json.text == NULL ? "is empty" : json_fault(json.text, json.length, &at);
    if (fault != NULL || th_json_kind(json) != TH_OBJECT) {
        panic("task `%s`: .options = \"%s\": %s", task->name, task->options, fault == NULL ? "is no JSON object" : fault);
    }
    return json;
}

option *describe_options(th_call *call, const th_task *task, size_t *count) {
    found found = {call, arena_take(call->arena, OPTIONS_MAX * sizeof(option), 8), 0};
    add_number(&found, "max_retries", task->max_retries);
    add_number(&found, "default_retry_delay", task->default_retry_delay);
    add_names(&found, "autoretry_for", task->autoretry_for);
    add_names(&found, "dont_autoretry_for", task->dont_autoretry_for);
    if (task->retry_backoff == 1) {
        add_flag(&found, "retry_backoff", 1); /* to Celery that is the same, and it is how people write it */
    } else {
        add_number(&found, "retry_backoff", task->retry_backoff);
    }
    add_number(&found, "retry_backoff_max", task->retry_backoff_max);
    add_flag(&found, "retry_jitter", task->retry_jitter);
    add_number(&found, "time_limit", task->time_limit);
    add_number(&found, "soft_time_limit", task->soft_time_limit);
    add_flag(&found, "handles_soft_limit", task->handles_soft_limit);
    add_text(&found, "rate_limit", task->rate_limit);
    add_text(&found, "queue", task->queue);
    add_number(&found, "priority", task->priority);
    add_number(&found, "expires", task->expires);
    add_flag(&found, "acks_late", task->acks_late);
    add_flag(&found, "ignore_result", task->ignore_result);
    add_flag(&found, "track_started", task->track_started);
    if (task->options != NULL) {
        for (th_items it = th_json_items(others(call, task)); th_next(&it);) {
            text name;
            if (decode(call, it.key, &name)) {
                add(&found, name, it.value);
            }
        }
    }
    *count = found.count;
    return found.list;
}
