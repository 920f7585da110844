//! The tasks that Celery's integration tests call, under the names and with the behaviour of `t/integration/tasks.py`.
//!
//! Written anew from what the tests expect of them.

mod failing;
mod pure;
mod recording;
mod redis;
mod replacing;
mod request;
mod retrying;

taskhost::plugin!(
    pure::ping,
    pure::identity,
    pure::add,
    pure::mul,
    pure::add_not_typed,
    pure::add_ignore_result,
    pure::add_with_result,
    pure::add_pydantic,
    pure::add_pydantic_string_annotations,
    pure::tsum,
    pure::xsum,
    pure::delayed_sum,
    pure::delayed_sum_with_soft_guard,
    pure::sleeping,
    pure::print_unicode,
    pure::return_exception,
    pure::replaced_with_me,
    pure::write_to_file_and_return_int,
    request::ids,
    request::collect_ids,
    request::return_priority,
    request::return_request_eta,
    request::return_properties,
    request::return_request_time_limits,
    request::task_with_declared_time_limits,
    failing::raise_error,
    failing::fail,
    failing::reject_without_requeue,
    failing::reject_then_succeed,
    retrying::retry,
    retrying::retry_once,
    retrying::retry_once_priority,
    retrying::retry_once_headers,
    retrying::retry_once_ignore_result,
    retrying::retry_once_with_result,
    retrying::retry_with_args_after_kwargs,
    retrying::retry_with_kwargs_after_args,
    retrying::auto_retry_class_task,
    replacing::add_replaced,
    replacing::fail_replaced,
    replacing::record_replaced_task_nesting,
    recording::redis_echo,
    recording::redis_echo_group_id,
    recording::redis_count,
    recording::sum_and_record,
    recording::errback_old_style,
    recording::errback_new_style,
    recording::errback_old_style_with_args,
    recording::errback_new_style_with_args,
);
