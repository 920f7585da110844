/*
 * What can be said of a call, and of a canvas as a whole: arguments, options, callbacks, immutability, stamps. Each kind
 * passes it on to its parts as Celery's classes do.
 */
#include "signature.h"

#include <string.h>

signature *changed(th_sig given) {
    signature *copied = th_alloc(given->call, sizeof *copied);
    *copied = *given;
    return copied;
}

signature *new_signature(th_call *call, const char *task, size_t length, shape shape) {
    signature *made = th_alloc(call, sizeof *made);
    *made = (signature){.call = call, .task = {copy(call, task, length), length}, .shape = shape, .args = json_of("[]")};
    if (shape == SHAPE_TASK) {
        made->kwargs = json_of("{}");
    }
    return made;
}

/* The first thing that is wrong is the one that is told. */
void break_by(signature *signature, const char *why) {
    if (signature->broken == NULL) {
        signature->broken = why;
    }
}

sigs add_sigs(th_call *call, sigs list, sigs others) {
    if (others.count == 0) {
        return list;
    }
    th_sig *all = arena_take(call->arena, (list.count + others.count) * sizeof *all, sizeof(void *));
    if (list.count > 0) {
        memcpy(all, list.list, list.count * sizeof *all);
    }
    memcpy(all + list.count, others.list, others.count * sizeof *all);
    return (sigs){all, list.count + others.count};
}

sigs add_sig(th_call *call, sigs list, th_sig one) { return add_sigs(call, list, (sigs){&one, 1}); }

static bool same(text a, text b) { return a.length == b.length && memcmp(a.data, b.data, a.length) == 0; }

members set_member(th_call *call, members list, text name, th_json value) {
    size_t at = 0;
    while (at < list.count && !same(list.list[at].name, name)) {
        at++;
    }
    size_t count = at == list.count ? list.count + 1 : list.count;
    member *all = arena_take(call->arena, count * sizeof *all, sizeof(void *));
    if (list.count > 0) {
        memcpy(all, list.list, list.count * sizeof *all);
    }
    all[at] = (member){name, value};
    return (members){all, count};
}

th_sig th_signature(th_call *call, const char *task) { return new_signature(call, task, strlen(task), SHAPE_TASK); }

/* ---- Arguments and options -------------------------------------------------------------------------------------- */

static th_sig broken(th_sig given, const char *why) {
    signature *made = changed(given);
    break_by(made, why);
    return made;
}

th_sig th_args(th_sig given, th_json array) {
    if (th_json_kind(array) != TH_ARRAY) {
        return broken(given, "the positional arguments are not a JSON array");
    }
    signature *made = changed(given);
    made->args = array;
    return made;
}

th_sig th_kwargs(th_sig given, th_json object) {
    if (given->shape != SHAPE_TASK) {
        return broken(given, "only a call of a task has keyword arguments");
    }
    if (th_json_kind(object) != TH_OBJECT) {
        return broken(given, "the keyword arguments are not a JSON object");
    }
    signature *made = changed(given);
    made->kwargs = object;
    return made;
}

th_sig th_option(th_sig given, const char *name, th_json value) {
    if (value.text == NULL) {
        return broken(given, join(given->call, "option ", name, " has no value", NULL));
    }
    signature *made = changed(given);
    bool is_link = strcmp(name, "link") == 0;
    if (is_link || strcmp(name, "link_error") == 0) {
        sigs attached;
        const char *why = read_attached(given->call, value, 0, &attached);
        if (why != NULL) {
            break_by(made, join(given->call, "option ", name, ": ", why, NULL));
        } else {
            *(is_link ? &made->links : &made->errbacks) = attached;
        }
        return made;
    }
    size_t length = strlen(name);
    made->options = set_member(given->call, made->options, (text){copy(given->call, name, length), length}, value);
    return made;
}

#define BY_FORMAT(call, format, into)                                                                                  \
    va_list list;                                                                                                      \
    va_start(list, format);                                                                                            \
    th_json json = jsonf_list(call, format, list);                                                                     \
    va_end(list);                                                                                                      \
    return into

th_sig th_argsf(th_sig given, const char *format, ...) { BY_FORMAT(given->call, format, th_args(given, json)); }
th_sig th_kwargsf(th_sig given, const char *format, ...) { BY_FORMAT(given->call, format, th_kwargs(given, json)); }
th_sig th_partialf(th_sig given, const char *format, ...) { BY_FORMAT(given->call, format, th_partial(given, json)); }
th_sig th_optionf(th_sig given, const char *name, const char *format, ...) {
    BY_FORMAT(given->call, format, th_option(given, name, json));
}

th_sig th_countdown(th_sig given, double seconds) { return th_optionf(given, "countdown", "%g", seconds); }

th_sig th_partial(th_sig given, th_json array) {
    if (given->immutable) {
        return given;
    }
    if (th_json_kind(array) != TH_ARRAY) {
        return broken(given, "the positional arguments are not a JSON array");
    }
    th_writer writer = th_write(given->call);
    th_begin_array(&writer);
    for (th_items it = th_json_items(array); th_next(&it);) {
        th_put(&writer, it.value);
    }
    for (th_items it = th_json_items(given->args); th_next(&it);) {
        th_put(&writer, it.value);
    }
    th_end(&writer);
    signature *made = changed(given);
    made->args = th_written(&writer);
    return made;
}

/* ---- What concerns the parts of a canvas ------------------------------------------------------------------------ */

/* The same list with each of it changed. */
static sigs each(th_call *call, sigs list, th_sig (*change)(th_sig one, const void *with), const void *with) {
    th_sig *all = arena_take(call->arena, list.count * sizeof *all, sizeof(void *));
    for (size_t i = 0; i < list.count; i++) {
        all[i] = change(list.list[i], with);
    }
    return (sigs){all, list.count};
}

/* As in Celery, one that is there already is not called twice. */
static sigs attach(th_call *call, sigs list, th_sig other) {
    th_json json = th_sig_json(other);
    for (size_t i = 0; i < list.count && json.text != NULL; i++) {
        th_json known = th_sig_json(list.list[i]);
        if (known.length == json.length && memcmp(known.text, json.text, json.length) == 0) {
            return list;
        }
    }
    return add_sig(call, list, other);
}

th_sig link_to(th_sig given, th_sig callback) {
    signature *made = changed(given);
    switch (given->shape) {
    case SHAPE_GROUP:
        if (given->tasks.count == 0) {
            break_by(made, "an empty group has no task that a callback could follow");
        } else {
            th_sig first = link_to(given->tasks.list[0], th_immutable(callback));
            sigs rest = {given->tasks.list + 1, given->tasks.count - 1};
            made->tasks = add_sigs(given->call, (sigs){NULL, 0}, (sigs){&first, 1});
            made->tasks = add_sigs(given->call, made->tasks, rest);
        }
        break;
    case SHAPE_CHORD:
        if (given->inner == NULL) {
            break_by(made, "a chord without a body has nothing to follow");
        } else {
            made->inner = link_to(given->inner, callback);
        }
        break;
    default:
        made->links = attach(given->call, given->links, callback);
    }
    return made;
}

static th_sig with_errback(th_sig one, const void *errback) { return link_error_to(one, errback); }
static th_sig chord_with_errback(th_sig one, const void *errback) {
    return one->shape == SHAPE_CHORD ? link_error_to(one, errback) : one;
}

th_sig link_error_to(th_sig given, th_sig errback) {
    signature *made = changed(given);
    switch (given->shape) {
    case SHAPE_GROUP:
        made->tasks = each(given->call, given->tasks, with_errback, errback);
        break;
    case SHAPE_CHORD:
        made->tasks = each(given->call, given->tasks, chord_with_errback, errback);
        made->inner = given->inner == NULL ? NULL : link_error_to(given->inner, errback);
        break;
    default:
        made->errbacks = attach(given->call, given->errbacks, errback);
    }
    return made;
}

th_sig th_link(th_sig given, th_sig callback) { return link_to(given, callback); }
th_sig th_link_error(th_sig given, th_sig errback) { return link_error_to(given, errback); }

static th_sig as_immutable(th_sig one, const void *with) {
    (void)with;
    return th_immutable(one);
}

th_sig th_immutable(th_sig given) {
    signature *made = changed(given);
    switch (given->shape) {
    case SHAPE_GROUP:
    case SHAPE_CHORD:
        made->tasks = each(given->call, given->tasks, as_immutable, NULL);
        break;
    case SHAPE_CHAIN: /* Celery marks the chain, and forgets that when it sends it. */
        if (given->tasks.count > 0) {
            th_sig *all = arena_take(given->call->arena, given->tasks.count * sizeof *all, sizeof(void *));
            memcpy(all, given->tasks.list, given->tasks.count * sizeof *all);
            all[0] = th_immutable(all[0]);
            made->tasks.list = all;
        }
        break;
    default:
        made->immutable = true;
    }
    return made;
}

static const text STAMPED = {"stamped_headers", 15};

static th_sig stamped(th_sig given, const void *with) {
    const member *stamp = with;
    th_call *call = given->call;
    signature *made = changed(given);
    made->links = each(call, given->links, stamped, stamp);
    made->errbacks = each(call, given->errbacks, stamped, stamp);
    switch (given->shape) {
    case SHAPE_CHORD:
        made->inner = given->inner == NULL ? NULL : stamped(given->inner, stamp);
        made->tasks = each(call, given->tasks, stamped, stamp);
        break;
    case SHAPE_CHAIN:
    case SHAPE_GROUP:
        made->tasks = each(call, given->tasks, stamped, stamp);
        break;
    default: {
        th_writer names = th_write(call);
        bool is_known = false;
        th_begin_array(&names);
        for (size_t i = 0; i < given->options.count; i++) {
            if (same(given->options.list[i].name, STAMPED)) {
                for (th_items it = th_json_items(given->options.list[i].value); th_next(&it);) {
                    th_put(&names, it.value);
                    is_known |= key_is(it.value, stamp->name.data);
                }
            }
        }
        if (!is_known) {
            th_put_str(&names, stamp->name.data);
        }
        th_end(&names);
        made->options = set_member(call, made->options, STAMPED, th_written(&names));
        made->options = set_member(call, made->options, stamp->name, stamp->value);
    }
    }
    return made;
}

th_sig th_stamp(th_sig given, const char *name, th_json value) {
    if (value.text == NULL) {
        return broken(given, join(given->call, "the stamp ", name, " has no value", NULL));
    }
    size_t length = strlen(name);
    member stamp = {{copy(given->call, name, length), length}, value};
    return stamped(given, &stamp);
}
