/* How a task ends: with a result, an exception, or the wish for something else. */
#include "internal.h"

#include <string.h>

#define ENDED ((th_result){1})

void run_call(th_call *call) {
    call->entry = find_task(call->task);
    if (call->entry == NULL) {
        th_error *error = make_error(call, "NotRegistered", TH_INVALID, call->task.data);
        th_raise_at(call, th_error_module(error, "celery.exceptions"), __FILE__, __LINE__, "run");
        return;
    }
    if (bind(call)) {
        call->entry->run(call);
    }
    for (th_bucket *bucket = call->buckets; bucket != NULL; bucket = bucket->next) {
        bucket->close(bucket->handle);
    }
    call->buckets = NULL;
    if (call->end == END_NONE) {
        th_error *error = make_error(call, "TaskError", TH_INVALID, "the task function returned without a result");
        th_raise_at(call, error, call->entry->file, call->entry->line, call->entry->function);
    }
}

/* ---- Results ---------------------------------------------------------------------------------------------------- */

static th_result value(th_call *call, th_json json) {
    call->end = END_VALUE;
    call->value = json;
    return ENDED;
}

th_result th_null(th_call *call) { return value(call, json_of("null")); }
th_result th_bool(th_call *call, bool flag) { return value(call, json_of(flag ? "true" : "false")); }
th_result th_text(th_call *call, const char *data, size_t length) { return value(call, json_text(call, data, length)); }
th_result th_str(th_call *call, const char *text) {
    return text == NULL ? th_null(call) : th_text(call, text, strlen(text));
}

th_result th_int(th_call *call, int64_t integer) {
    th_writer writer = th_write(call);
    th_put_int(&writer, integer);
    return th_return(call, th_written(&writer));
}

th_result th_uint(th_call *call, uint64_t integer) {
    th_writer writer = th_write(call);
    th_put_uint(&writer, integer);
    return th_return(call, th_written(&writer));
}

th_result th_double(th_call *call, double number) {
    th_writer writer = th_write(call);
    th_put_double(&writer, number);
    return th_return(call, th_written(&writer));
}

th_result th_return(th_call *call, th_json json) {
    if (json.text != NULL) {
        return value(call, json);
    }
    th_error *error = call->last_error;
    if (error == NULL) {
        error = make_error(call, "TypeError", TH_INVALID, "the result has no value");
    }
    const th_entry *entry = call->entry;
    return th_raise_at(call, error, entry->file, entry->line, entry->function);
}

th_result th_returnf(th_call *call, const char *format, ...) {
    va_list list;
    va_start(list, format);
    th_json json = jsonf_list(call, format, list);
    va_end(list);
    return th_return(call, json);
}

/* ---- Exceptions ------------------------------------------------------------------------------------------------- */

th_error *make_error(th_call *call, const char *type, th_error_kind kind, const char *message) {
    th_error *error = th_alloc(call, sizeof *error);
    *error = (th_error){.call = call, .type = type, .module = "builtins", .message = message, .kind = kind};
    call->last_error = error;
    return error;
}

void add_frame(th_error *error, const char *file, int line, const char *function) {
    if (error->frame_count > 0) {
        /* An error that is made and raised in the same function was made there. */
        const frame *last = &error->frames[error->frame_count - 1];
        if (strcmp(last->function, function) == 0 && strcmp(last->file, file) == 0) {
            return;
        }
    }
    if (error->frame_count < FRAMES_MAX) {
        error->frames[error->frame_count++] = (frame){file, function, line};
    }
}

th_error *th_error_at(th_call *call, const char *file, int line, const char *function, const char *type, const char *format,
                      ...) {
    const char *message = "";
    if (format != NULL) {
        va_list list;
        va_start(list, format);
        message = format_list(call, format, list);
        va_end(list);
    }
    th_error *error = make_error(call, copy(call, type, strlen(type)), TH_OTHER, message);
    add_frame(error, file, line, function);
    return error;
}

th_result th_raise_at(th_call *call, th_error *error, const char *file, int line, const char *function) {
    if (error == NULL) {
        error = make_error(call, "TaskError", TH_INVALID, "there was no error to raise");
    }
    add_frame(error, file, line, function);
    call->end = END_FAILED;
    call->raised = error;
    return ENDED;
}

th_error *th_error_module(th_error *error, const char *module) {
    error->module = copy(error->call, module, strlen(module));
    return error;
}

th_error *th_error_arguments(th_error *error, th_json arguments) {
    if (th_json_kind(arguments) == TH_ARRAY) {
        error->arguments = arguments;
    } else if (arguments.text != NULL) {
        error->arguments = th_jsonf(error->call, "[%p]", (const void *)&arguments);
    }
    return error;
}

th_error *th_error_cause(th_error *error, th_error *cause) {
    for (const th_error *at = cause; at != NULL; at = at->cause) {
        if (at == error) {
            return error; /* nothing causes itself */
        }
    }
    error->cause = cause;
    return error;
}

th_error *th_error_traceback(th_error *error, const char *text) {
    error->traceback = copy(error->call, text, strlen(text));
    return error;
}

th_error *th_last_error(th_call *call) { return call->last_error; }
const char *th_error_type(const th_error *error) { return error->type; }
const char *th_error_message(const th_error *error) { return error->message; }
th_error_kind th_error_kind_of(const th_error *error) { return error->kind; }

th_json error_arguments(const th_error *error) {
    if (error->arguments.text != NULL) {
        return error->arguments;
    }
    th_writer writer = th_write(error->call);
    th_begin_array(&writer);
    if (*error->message != 0) {
        th_put_str(&writer, error->message);
    }
    th_end(&writer);
    return th_written(&writer);
}

/* What Python would print, causes first. */
const char *render_traceback(const th_error *error) {
    th_call *call = error->call;
    const char *text = "";
    if (error->cause != NULL) {
        text = join(call, render_traceback(error->cause),
                    "\nThe above exception was the direct cause of the following exception:\n\n", NULL);
    }
    if (error->traceback != NULL) {
        return join(call, text, error->traceback, NULL);
    }
    if (error->frame_count > 0) {
        text = join(call, text, "Traceback (most recent call last):\n", NULL);
    }
    for (unsigned i = error->frame_count; i > 0; i--) {
        const frame *frame = &error->frames[i - 1];
        const char *line = digits(call, (uint64_t)frame->line);
        text = join(call, text, "  File \"", frame->file, "\", line ", line, ", in ", frame->function, "\n", NULL);
    }
    bool is_builtin = strcmp(error->module, "builtins") == 0;
    return join(call, text, is_builtin ? "" : error->module, is_builtin ? "" : ".", error->type,
                *error->message == 0 ? "" : ": ", error->message, "\n", NULL);
}

/* ---- Other ends ------------------------------------------------------------------------------------------------- */

th_result th_retry(const th_retry_wish *wish) {
    th_call *call = wish->call;
    const char *wrong = NULL;
    if (wish->args.text != NULL && th_json_kind(wish->args) != TH_ARRAY) {
        wrong = "the arguments of a retry are not a JSON array";
    } else if (wish->kwargs.text != NULL && th_json_kind(wish->kwargs) != TH_OBJECT) {
        wrong = "the keyword arguments of a retry are not a JSON object";
    }
    if (wrong != NULL) {
        const th_entry *entry = call->entry;
        return th_raise_at(call, make_error(call, "TypeError", TH_INVALID, wrong), entry->file, entry->line, entry->function);
    }
    call->end = END_RETRY;
    call->wish = *wish;
    return ENDED;
}

th_result th_reject(th_call *call, bool requeue) {
    call->end = END_REJECT;
    call->requeue = requeue;
    return ENDED;
}

th_result th_ignore(th_call *call) {
    call->end = END_IGNORE;
    return ENDED;
}

th_result th_replace(th_call *call, th_sig signature) {
    th_json json = signature == NULL ? NO_JSON : th_sig_json(signature);
    if (json.text == NULL) {
        return th_return(call, json);
    }
    call->end = END_REPLACE;
    call->value = json;
    return ENDED;
}
