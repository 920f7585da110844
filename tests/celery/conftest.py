# Appended to Celery's own conftest.py: the worker of the session is the host, in a process of its own, and of the tests
# those run that tests.txt names.

import pathlib
import subprocess
import threading

from celery.backends.asynchronous import Drainer
from celery.utils.nodenames import anon_nodename

HOST_PATIENCE = 90

_drain_events_until = Drainer.drain_events_until


# The tests of failing chords wait for the body and expect what the header raised. Celery's client looks at the header
# before it begins to wait and after each message, but not if the body's failure is stored in between, some milliseconds.
def _drain_and_look_again(self, p, timeout=None, interval=1, on_interval=None, wait=None):
    yield from _drain_events_until(self, p, timeout=timeout, interval=interval, on_interval=on_interval, wait=wait)
    if on_interval:
        on_interval()


Drainer.drain_events_until = _drain_and_look_again


@pytest.fixture(scope='session')
def celery_session_worker(celery_session_app, celery_includes, celery_class_tasks):
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for task in celery_class_tasks:
        celery_session_app.register_task(task)
    # test_inspect knows the worker by the name that one in this process would have.
    command = [os.environ['TASKHOST_TEST_HOST'], 'run', '--plugins', 'plugins', '-n', anon_nodename(),
               '-b', TEST_BROKER, '-r', TEST_BACKEND, '-Q', 'celery']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding='utf-8') as process:
        ready = threading.Event()

        def collect():
            with open('host.log', 'w', encoding='utf-8') as log:
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    if line.rstrip().endswith(' ready.'):
                        ready.set()

        reader = threading.Thread(target=collect)
        reader.start()
        try:
            if not ready.wait(HOST_PATIENCE):
                pytest.exit(f'the host is not ready after {HOST_PATIENCE} s', 1)
            # As Celery's own fixture does: a task has been there and back before the first test.
            assert celery_session_app.send_task('celery.ping').get(timeout=HOST_PATIENCE) == 'pong'
            # A worker in this process would also answer by now.
            patience = time.monotonic() + HOST_PATIENCE
            while not celery_session_app.control.ping():
                assert time.monotonic() < patience, 'the host does not answer'
            yield process
            if process.poll() is not None:
                pytest.exit(f'the host ended with {process.returncode} while the tests ran', 1)
        finally:
            process.terminate()
            try:
                process.wait(HOST_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()


# How long a test takes of which tests.txt does not say it.
USUAL_SECONDS = 3

# The tasks of test_inspect wait or sleep for five seconds, and its tests expect to see no others. Celery's two seconds let a
# test that was asked again find the task of its first time, and fail for that.
SECONDS_UNTIL_GONE = 6


def _listed():
    """The tests as tests.txt has them: the word before each, and how many seconds it takes."""
    tests = {}
    for line in pathlib.Path('tests.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            word, test, *seconds = line.partition('  #')[0].split()
            assert word in ('run', 'rabbitmq', 'marked', 'never'), line
            tests[test] = word, int(*seconds or [USUAL_SECONDS])
    return tests


def _name(nodeid):
    return nodeid.partition('[')[0].removeprefix('t/integration/')


def _share(items, listed, part, parts):
    """What one of so many hosts has to do so that all are done at about the same time."""
    loads, shares = [0] * parts, [set() for _ in range(parts)]
    for item in sorted(items, key=lambda item: -listed[_name(item.nodeid)][1]):
        least = loads.index(min(loads))
        loads[least] += listed[_name(item.nodeid)][1]
        shares[least].add(item)
    return [item for item in items if item in shares[part]]


# First, so that a filter of the command line sees only what is left.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    listed = _listed()
    found = {_name(item.nodeid) for item in items}
    missing = sorted(test for test in found if test not in listed)
    vanished = sorted(test for test in listed if test not in found)
    if missing or vanished:
        raise pytest.UsageError(f'tests.txt lacks {missing} and names {vanished}, which are no tests')
    words = ('run', 'marked') if TEST_BROKER.startswith('redis:') else ('run', 'marked', 'rabbitmq')
    keep = [item for item in items if listed[_name(item.nodeid)][0] in words]
    which, part, parts = os.environ['TASKHOST_TEST_PART'].split()
    if which == 'late':
        keep = [item for item in keep if '::test_chord::' in item.nodeid or 'test_group_chains' in item.nodeid]
    keep = _share(keep, listed, int(part), int(parts))
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep
    for item in items:
        again = item.get_closest_marker('flaky')
        if again and '/test_inspect.py::' in item.nodeid:
            item.add_marker(pytest.mark.flaky(**{**again.kwargs, 'reruns_delay': SECONDS_UNTIL_GONE}), append=False)


def pytest_terminal_summary(terminalreporter):
    stats, listed = terminalreporter.stats, _listed()
    count = {word: len(stats.get(word, [])) for word in ('passed', 'failed', 'error', 'skipped', 'xfailed', 'xpassed')}
    count['marked'] = sum(listed[_name(report.nodeid)][0] == 'marked' for report in stats.get('xfailed', []))
    count['xfailed'] -= count['marked']
    pathlib.Path('count.txt').write_text(' '.join(f'{word}={number}' for word, number in count.items()))
    failed = [report.nodeid for word in ('failed', 'error') for report in stats.get(word, [])]
    pathlib.Path('failed.txt').write_text(''.join(f'{nodeid}\n' for nodeid in failed))
