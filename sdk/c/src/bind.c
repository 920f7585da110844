/* Binds positional and keyword arguments to parameters by Python's rules, and complains in Python's words. */
#include "internal.h"

#include <string.h>

#define BIT(kind) (1u << (kind))

static const char *const TYPE_NAMES[] = {"nothing", "NoneType", "bool", "int", "float", "str", "list", "dict"};

/* Ends the call with an error that points at the task, there being no line of it to blame. */
static bool complain(th_call *call, const char *type, const char *what) {
    const th_entry *entry = call->entry;
    th_error *error = make_error(call, type, TH_INVALID, join(call, entry->function, "() ", what, NULL));
    th_raise_at(call, error, entry->file, entry->line, entry->function);
    return false;
}

static const char *quoted(th_call *call, const param *param) {
    return join(call, "'", copy(call, param->name, param->name_length), "'", NULL);
}

static bool is_named(const param *param, text name) {
    return param->name_length == name.length && memcmp(param->name, name.data, name.length) == 0;
}

static bool surplus(th_call *call, size_t given) {
    params *params = &call->params;
    size_t least = 0;
    for (size_t i = 0; i < params->positional; i++) {
        least += params->list[i].required;
    }
    const char *most = digits(call, params->positional);
    const char *takes = least < params->positional ? join(call, "from ", digits(call, least), " to ", most, NULL) : most;
    return complain(call, "TypeError",
                    join(call, "takes ", takes, params->positional == 1 ? " positional argument but " : " positional arguments but ",
                         digits(call, given), given == 1 ? " was given" : " were given", NULL));
}

static bool missing(th_call *call, bool by_name_only) {
    params *params = &call->params;
    size_t count = 0, seen = 0;
    const char *list = "";
    for (size_t i = 0; i < params->count; i++) {
        count += params->list[i].value.text == NULL && params->list[i].by_name_only == by_name_only;
    }
    for (size_t i = 0; i < params->count; i++) {
        param *param = &params->list[i];
        if (param->value.text == NULL && param->by_name_only == by_name_only) {
            const char *between = seen == 0 ? "" : count == 2 ? " and " : seen + 1 == count ? ", and " : ", ";
            list = join(call, list, between, quoted(call, param), NULL);
            seen++;
        }
    }
    const char *kind = by_name_only ? " required keyword-only argument" : " required positional argument";
    return complain(call, "TypeError",
                    join(call, "missing ", digits(call, count), kind, count == 1 ? ": " : "s: ", list, NULL));
}

/* What the types of a parameter are called: `int`, or `int or None`. */
static const char *expected(th_call *call, unsigned types) {
    const char *list = "";
    bool takes_float = (types & BIT(TH_FLOAT)) != 0;
    for (unsigned kind = TH_BOOL; kind <= TH_OBJECT; kind++) {
        if ((types & BIT(kind)) != 0 && !(kind == TH_INT && takes_float)) {
            list = join(call, list, *list == 0 ? "" : " or ", TYPE_NAMES[kind], NULL);
        }
    }
    return (types & BIT(TH_NULL)) == 0 ? list : *list == 0 ? "None" : join(call, list, " or None", NULL);
}

/* Checks an argument against the types of its parameter. */
static bool check(th_call *call, param *param) {
    th_kind kind = th_json_kind(param->value);
    if ((param->types & BIT(kind)) == 0) {
        return complain(call, "TypeError",
                        join(call, "argument ", quoted(call, param), " must be ", expected(call, param->types), ", not ",
                             TYPE_NAMES[kind], NULL));
    }
    int64_t integer;
    bool takes_float = (param->types & BIT(TH_FLOAT)) != 0;
    if (kind == TH_INT && !takes_float && !th_json_int(param->value, &integer)) {
        return complain(call, "OverflowError", join(call, "argument ", quoted(call, param), ": int does not fit into 64 bits", NULL));
    }
    if (kind == TH_STRING && param->is_str) {
        text decoded;
        if (!decode(call, param->value, &decoded)) {
            return complain(call, "ValueError", join(call, "argument ", quoted(call, param), ": malformed text", NULL));
        }
        if (memchr(decoded.data, 0, decoded.length) != NULL) {
            return complain(call, "ValueError", join(call, "argument ", quoted(call, param), ": embedded null character", NULL));
        }
        param->decoded = decoded.data;
    }
    return true;
}

/* The order of the checks is CPython's: keywords, surplus, missing. */
bool bind(th_call *call) {
    call->params = read_params(call, call->entry);
    params *params = &call->params;
    size_t given = 0;
    th_writer rest = th_write(call), keywords = th_write(call);
    if (params->takes_rest) {
        th_begin_array(&rest);
    }
    if (params->takes_keywords) {
        th_begin_object(&keywords);
    }
    if (th_json_kind(call->args) != TH_ARRAY) {
        return complain(call, "TypeError", "the positional arguments are not a JSON array");
    }
    for (th_items it = th_json_items(call->args); th_next(&it); given++) {
        if (given < params->positional) {
            params->list[given].value = it.value;
        } else if (params->takes_rest) {
            th_put(&rest, it.value);
        }
    }
    if (th_json_kind(call->kwargs) != TH_OBJECT) {
        return complain(call, "TypeError", "the keyword arguments are not a JSON object");
    }
    for (th_items it = th_json_items(call->kwargs); th_next(&it);) {
        text name;
        if (!decode(call, it.key, &name)) {
            return complain(call, "TypeError", "the keyword arguments are not a JSON object");
        }
        size_t i = 0;
        while (i < params->count && !is_named(&params->list[i], name)) {
            i++;
        }
        if (i == params->count && !params->takes_keywords) {
            return complain(call, "TypeError", join(call, "got an unexpected keyword argument '", name.data, "'", NULL));
        }
        if (i == params->count) {
            th_key_text(&keywords, name.data, name.length);
            th_put(&keywords, it.value);
        } else if (i < given && i < params->positional) {
            return complain(call, "TypeError", join(call, "got multiple values for argument '", name.data, "'", NULL));
        } else {
            params->list[i].value = it.value;
        }
    }
    if (given > params->positional && !params->takes_rest) {
        return surplus(call, given);
    }
    bool misses[2] = {false, false};
    for (size_t i = 0; i < params->count; i++) {
        param *param = &params->list[i];
        if (param->value.text == NULL) {
            param->value = param->missing;
            misses[param->by_name_only] |= param->required;
        }
    }
    if (misses[0] || misses[1]) {
        return missing(call, !misses[0]);
    }
    for (size_t i = 0; i < params->count; i++) {
        if (!check(call, &params->list[i])) {
            return false;
        }
    }
    if (params->takes_rest) {
        th_end(&rest);
        call->rest = th_written(&rest);
    }
    if (params->takes_keywords) {
        th_end(&keywords);
        call->keywords = th_written(&keywords);
    }
    return true;
}

/* ---- What the task asks for ------------------------------------------------------------------------------------- */

static const param *find(th_call *call, const char *name) {
    for (size_t i = 0; i < call->params.count; i++) {
        if (is_named(&call->params.list[i], text_of(name))) {
            return &call->params.list[i];
        }
    }
    const th_task *task = call->entry->task;
    panic("%s:%d: task `%s` asks for the argument `%s`, which is not in its .params = \"%s\"", call->entry->file,
          call->entry->line, task->name, name, task->params == NULL ? "" : task->params);
}

static const param *typed(th_call *call, const char *name, unsigned types, const char *function) {
    const param *param = find(call, name);
    unsigned others = param->types & ~(types | BIT(TH_NULL));
    if (others != 0 || (types == BIT(TH_STRING) && !param->is_str)) {
        panic("%s:%d: task `%s` asks for the argument `%s` with %s, and its .params = \"%s\" let it be something else",
              call->entry->file, call->entry->line, call->entry->task->name, name, function, call->entry->task->params);
    }
    return param;
}

th_json th_arg(th_call *call, const char *name) { return find(call, name)->value; }

int64_t th_arg_int(th_call *call, const char *name) {
    int64_t value = 0;
    return th_json_int(typed(call, name, BIT(TH_INT), "th_arg_int")->value, &value) ? value : 0;
}

double th_arg_double(th_call *call, const char *name) {
    double value = 0;
    return th_json_double(typed(call, name, BIT(TH_INT) | BIT(TH_FLOAT), "th_arg_double")->value, &value) ? value : 0;
}

bool th_arg_bool(th_call *call, const char *name) {
    bool value = false;
    return th_json_bool(typed(call, name, BIT(TH_BOOL), "th_arg_bool")->value, &value) && value;
}

const char *th_arg_str(th_call *call, const char *name) {
    return typed(call, name, BIT(TH_STRING), "th_arg_str")->decoded;
}

bool th_arg_is_none(th_call *call, const char *name) { return th_json_kind(find(call, name)->value) == TH_NULL; }

static th_json rest(th_call *call, th_json value, const char *what) {
    if (value.text == NULL) {
        panic("%s:%d: task `%s` asks for what only a parameter with %s takes", call->entry->file, call->entry->line,
              call->entry->task->name, what);
    }
    return value;
}

th_json th_rest(th_call *call) { return rest(call, call->rest, "*"); }
th_json th_keywords(th_call *call) { return rest(call, call->keywords, "**"); }
