/*
 * A signature as Celery's map, and back. Cuts texts and does not parse them, so arguments keep every number and every odd token
 * that they have.
 */
#include "signature.h"

#include <string.h>

static void put_sigs(th_writer *writer, sigs list, const char **why);

static void put_members(th_writer *writer, members list) {
    for (size_t i = 0; i < list.count; i++) {
        th_key_text(writer, list.list[i].name.data, list.list[i].name.length);
        th_put(writer, list.list[i].value);
    }
}

static void put_sig(th_writer *writer, th_sig given, const char **why) {
    if (given == NULL) {
        *why = "a part of a signature is none";
        return;
    }
    if (given->broken != NULL && *why == NULL) {
        *why = join(given->call, "a signature of ", given->task.data, ": ", given->broken, NULL);
    }
    if (*why != NULL) {
        return;
    }
    th_begin_object(writer);
    th_key(writer, "task");
    th_put_text(writer, given->task.data, given->task.length);
    th_key(writer, "args");
    th_put(writer, given->args);
    th_key(writer, "kwargs");
    if (given->shape == SHAPE_TASK) {
        th_put(writer, given->kwargs);
    } else {
        th_begin_object(writer);
        if (given->shape == SHAPE_CHORD) {
            th_key(writer, "header");
            put_sigs(writer, given->tasks, why);
            th_key(writer, "body");
            if (given->inner == NULL) {
                th_put_null(writer);
            } else {
                put_sig(writer, given->inner, why);
            }
            put_members(writer, given->beside);
        } else if (given->shape == SHAPE_CHAIN || given->shape == SHAPE_GROUP) {
            th_key(writer, "tasks");
            put_sigs(writer, given->tasks, why);
        } else {
            th_key(writer, "task");
            put_sig(writer, given->inner, why);
            th_key(writer, "it");
            th_put(writer, given->it);
            if (given->shape == SHAPE_CHUNKS) {
                th_key(writer, "n");
                th_put(writer, given->n);
            }
        }
        th_end(writer);
    }
    th_key(writer, "options");
    th_begin_object(writer);
    put_members(writer, given->options);
    if (given->links.count > 0) {
        th_key(writer, "link");
        put_sigs(writer, given->links, why);
    }
    if (given->errbacks.count > 0) {
        th_key(writer, "link_error");
        put_sigs(writer, given->errbacks, why);
    }
    th_end(writer);
    th_key(writer, "subtask_type");
    th_put_str(writer, shape_name(given->shape));
    th_key(writer, "immutable");
    th_put_bool(writer, given->immutable);
    put_members(writer, given->others);
    th_end(writer);
}

static void put_sigs(th_writer *writer, sigs list, const char **why) {
    th_begin_array(writer);
    for (size_t i = 0; i < list.count; i++) {
        put_sig(writer, list.list[i], why);
    }
    th_end(writer);
}

th_json th_sig_json(th_sig given) {
    th_writer writer = th_write(given->call);
    const char *why = NULL;
    put_sig(&writer, given, &why);
    if (why != NULL) {
        make_error(given->call, "TypeError", TH_INVALID, why);
        return NO_JSON;
    }
    return th_written(&writer);
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

/* The members of an object; of two with the same name the last counts. */
static members read_members(th_call *call, th_json object) {
    size_t room = th_json_count(object), count = 0;
    member *list = arena_take(call->arena, room * sizeof *list, sizeof(void *));
    for (th_items it = th_json_items(object); count < room && th_next(&it);) {
        text name;
        if (!decode(call, it.key, &name)) {
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            if (list[i].name.length == name.length && memcmp(list[i].name.data, name.data, name.length) == 0) {
                memmove(list + i, list + i + 1, (count - i - 1) * sizeof *list);
                count--;
                break;
            }
        }
        list[count++] = (member){name, it.value};
    }
    return (members){list, count};
}

/* Takes a member out of the list, which is ours. */
static th_json take(members *list, const char *name) {
    member *all = (member *)list->list;
    for (size_t i = 0; i < list->count; i++) {
        if (all[i].name.length == strlen(name) && memcmp(all[i].name.data, name, all[i].name.length) == 0) {
            th_json value = all[i].value;
            memmove(all + i, all + i + 1, (list->count - i - 1) * sizeof *all);
            list->count--;
            return value;
        }
    }
    return NO_JSON;
}

static const char *read_sig(th_call *call, th_json map, unsigned depth, th_sig *out);

static const char *read_sigs(th_call *call, th_json array, unsigned depth, sigs *out) {
    if (th_json_kind(array) != TH_ARRAY) {
        return "what should be a list of signatures is no array";
    }
    size_t room = th_json_count(array), count = 0;
    th_sig *list = arena_take(call->arena, room * sizeof *list, sizeof(void *));
    for (th_items it = th_json_items(array); count < room && th_next(&it);) {
        const char *why = read_sig(call, it.value, depth, &list[count++]);
        if (why != NULL) {
            return why;
        }
    }
    *out = (sigs){list, count};
    return NULL;
}

const char *read_attached(th_call *call, th_json json, unsigned depth, sigs *out) {
    *out = (sigs){NULL, 0};
    if (th_json_kind(json) == TH_NULL) {
        return NULL;
    }
    if (th_json_kind(json) != TH_OBJECT) {
        return read_sigs(call, json, depth, out);
    }
    th_sig one;
    const char *why = read_sig(call, json, depth, &one);
    if (why == NULL) {
        *out = add_sig(call, *out, one);
    }
    return why;
}

static const char *without(th_call *call, shape shape, const char *part) {
    return join(call, "a ", shape_name(shape), " without ", part, NULL);
}

/* The parts of a canvas, which are in its keyword arguments. */
static const char *read_parts(signature *made, th_json kwargs, unsigned depth) {
    th_call *call = made->call;
    if (th_json_kind(kwargs) != TH_OBJECT) {
        return "a signature whose kwargs are no object";
    }
    members map = read_members(call, kwargs);
    const char *why = NULL;
    switch (made->shape) {
    case SHAPE_TASK:
        made->kwargs = kwargs;
        return NULL;
    case SHAPE_CHAIN:
    case SHAPE_GROUP: {
        th_json tasks = take(&map, "tasks");
        return tasks.text == NULL ? without(call, made->shape, "tasks") : read_sigs(call, tasks, depth, &made->tasks);
    }
    case SHAPE_CHORD: {
        th_json header = take(&map, "header"), body = take(&map, "body");
        if (header.text == NULL) {
            return without(call, made->shape, "header");
        }
        if (th_json_kind(header) == TH_OBJECT) { /* what a client has frozen has a group there */
            th_sig group;
            why = read_sig(call, header, depth, &group);
            if (why == NULL) {
                bool is_list = group->shape == SHAPE_CHAIN || group->shape == SHAPE_GROUP;
                made->tasks = is_list ? group->tasks : add_sig(call, made->tasks, group);
            }
        } else {
            why = read_sigs(call, header, depth, &made->tasks);
        }
        if (why == NULL && body.text != NULL && th_json_kind(body) != TH_NULL) {
            why = read_sig(call, body, depth, &made->inner);
        }
        made->beside = map;
        return why;
    }
    default: {
        th_json task = take(&map, "task");
        made->it = take(&map, "it");
        made->n = take(&map, "n");
        if (task.text == NULL || made->it.text == NULL || (made->shape == SHAPE_CHUNKS && made->n.text == NULL)) {
            return without(call, made->shape, task.text == NULL ? "task" : made->it.text == NULL ? "it" : "n");
        }
        if (th_json_kind(made->it) != TH_ARRAY) {
            return join(call, "a ", shape_name(made->shape), " over no list", NULL);
        }
        return read_sig(call, task, depth, &made->inner);
    }
    }
}

static const char *read_sig(th_call *call, th_json map, unsigned depth, th_sig *out) {
    if (depth == SIGNATURE_DEPTH_MAX) {
        return "a signature that is nested too deep";
    }
    if (th_json_kind(map) != TH_OBJECT) {
        return "not a signature: no JSON object";
    }
    members members = read_members(call, map);
    text task;
    th_json name = take(&members, "task");
    if (name.text == NULL || !decode(call, name, &task) || task.length == 0) {
        return "not a signature: it names no task";
    }
    shape shape = SHAPE_TASK;
    th_json kind = take(&members, "subtask_type");
    if (kind.text != NULL && th_json_kind(kind) != TH_NULL) {
        shape = SHAPE_CHAIN;
        while (shape <= SHAPE_STARMAP && !key_is(kind, shape_name(shape))) {
            shape++;
        }
        if (shape > SHAPE_STARMAP) {
            return join(call, "a signature of an unknown kind: ", copy(call, kind.text, kind.length), NULL);
        }
    }
    signature *made = new_signature(call, task.data, task.length, shape);
    th_json kwargs = take(&members, "kwargs");
    const char *why = read_parts(made, kwargs.text == NULL ? json_of("{}") : kwargs, depth + 1);
    if (why != NULL) {
        return why;
    }
    th_json args = take(&members, "args");
    if (args.text != NULL) {
        if (th_json_kind(args) != TH_ARRAY) {
            return "a signature whose args are no array";
        }
        made->args = args;
    }
    th_json options = take(&members, "options");
    if (options.text != NULL) {
        if (th_json_kind(options) != TH_OBJECT) {
            return "a signature whose options are no object";
        }
        made->options = read_members(call, options);
        th_json link = take(&made->options, "link"), link_error = take(&made->options, "link_error");
        if (link.text != NULL) {
            why = read_attached(call, link, depth + 1, &made->links);
        }
        if (why == NULL && link_error.text != NULL) {
            why = read_attached(call, link_error, depth + 1, &made->errbacks);
        }
        if (why != NULL) {
            return why;
        }
    }
    bool immutable = false;
    made->immutable = th_json_bool(take(&members, "immutable"), &immutable) && immutable;
    made->others = members;
    *out = made;
    return NULL;
}

th_sig th_sig_read(th_call *call, th_json map) {
    th_sig signature = NULL;
    const char *why = read_sig(call, map, 0, &signature);
    if (why != NULL) {
        make_error(call, "TypeError", TH_INVALID, why);
        return NULL;
    }
    return signature;
}
