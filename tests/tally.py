#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tally.py BUILD STATUS - counts the test cases of the last `meson test` in BUILD, which exited with STATUS.

No one log suffices. The junit file has every case but keeps silent about a test that timed out; the json file has
one verdict a test and knows no cases; and both believe a googletest program that left through exit(0) before it wrote any
result, so the list of tests tells which ones owe us cases.
Prints `N passed, N failed, N skipped`. Exit status 1 if anything failed, or if nothing ran.
"""
import json
import os
import sys
import xml.etree.ElementTree as ElementTree

GOOD = {'OK', 'EXPECTEDFAIL'}


def verdicts(path):
    """Test name -> meson's verdict."""
    found = {}
    if os.path.exists(path):
        with open(path, encoding='utf-8') as log:
            for line in log:
                entry = json.loads(line)
                found[entry['name']] = entry['result']
    return found


def cases(path):
    """(suite, 'passed' | 'failed' | 'skipped') for each case in the junit file that its test wrote itself."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return
    for suite in root.iter('testsuite'):
        for case in suite.findall('testcase'):
            if case.find('failure') is not None or case.find('error') is not None:
                outcome = 'failed'
            elif case.find('skipped') is not None or case.get('status') == 'notrun':
                outcome = 'skipped'
            else:
                outcome = 'passed'
            # The tests without cases share one suite, named for the project: no test's name is in it.
            yield suite.get('name'), outcome


def tests_with_cases(path):
    """Names of the tests that write results case by case."""
    with open(path, encoding='utf-8') as file:
        return {test['name'] for test in json.load(file) if test['protocol'] in ('gtest', 'tap')}


def tally(build):
    tests = verdicts(os.path.join(build, 'meson-logs', 'testlog.json'))
    owing = tests_with_cases(os.path.join(build, 'meson-info', 'intro-tests.json'))
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    seen = {name: [] for name in tests}
    for suite, outcome in cases(os.path.join(build, 'meson-logs', 'testlog.junit.xml')):
        owner = max((name for name in tests if name in suite), key=len, default=None)
        if owner:
            seen[owner].append(outcome)
    for name, verdict in tests.items():
        outcomes = seen[name]
        if not outcomes:
            # meson's own verdict is all there is; a skip needs no cases, a pass does where cases are owed.
            owed = name.split(' / ')[-1] in owing
            outcomes = ['skipped' if verdict == 'SKIP' else 'passed' if verdict in GOOD and not owed else 'failed']
        elif verdict not in GOOD and verdict != 'SKIP' and 'failed' not in outcomes:
            outcomes.append('failed')
        for outcome in outcomes:
            counts[outcome] += 1
    return counts


def main():
    counts = tally(sys.argv[1])
    if int(sys.argv[2]) != 0 and counts['failed'] == 0:
        counts['failed'] = 1
    if counts['passed'] + counts['failed'] == 0:
        print('tests: nothing ran')
    print('{passed} passed, {failed} failed, {skipped} skipped'.format(**counts))
    return 1 if counts['failed'] or not counts['passed'] else 0


if __name__ == '__main__':
    sys.exit(main())
