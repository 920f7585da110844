# Appended to Celery's own conftest.py: the worker of the session is the host, in a process of its own, and of the tests
# those run that tests.txt names.

import pathlib
import subprocess
import threading

from celery.utils.nodenames import anon_nodename

HOST_PATIENCE = 90


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


def _listed():
    """The tests by how tests.txt has them: `run`, `rabbitmq`, `later` or `never`."""
    tests = {}
    for line in pathlib.Path('tests.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            word, test = line.split()[:2]
            assert word in ('run', 'rabbitmq', 'later', 'never'), line
            tests[test] = word
    return tests


# First, so that a filter of the command line sees only what is left.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    listed = _listed()
    found = {item.nodeid.partition('[')[0].removeprefix('t/integration/') for item in items}
    missing = sorted(test for test in found if test not in listed)
    vanished = sorted(test for test in listed if test not in found)
    if missing or vanished:
        raise pytest.UsageError(f'tests.txt lacks {missing} and names {vanished}, which are no tests')
    words = ('run',) if TEST_BROKER.startswith('redis:') else ('run', 'rabbitmq')
    keep = [item for item in items if listed[item.nodeid.partition('[')[0].removeprefix('t/integration/')] in words]
    match os.environ['TASKHOST_TEST_PART'].split():
        case ['late']:
            keep = [item for item in keep if '::test_chord::' in item.nodeid or 'test_group_chains' in item.nodeid]
        case [part, parts]:
            keep = keep[int(part)::int(parts)]
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


def pytest_terminal_summary(terminalreporter):
    stats = terminalreporter.stats
    count = {word: len(stats.get(word, [])) for word in ('passed', 'failed', 'error', 'skipped', 'xfailed', 'xpassed')}
    pathlib.Path('count.txt').write_text(' '.join(f'{word}={number}' for word, number in count.items()))
