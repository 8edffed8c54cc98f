#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tally.py BUILD STATUS - counts the test cases of the last `meson test` in BUILD, which exited with STATUS.

Two logs are read because neither suffices. The junit file has every case but keeps silent about a test that
timed out or died before it wrote its results; the json file has one verdict a test and knows no cases.
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
    """(suite and case name, 'passed' | 'failed' | 'skipped') for each case in the junit file."""
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
            yield f"{suite.get('name')} {case.get('name')}", outcome


def tally(build):
    tests = verdicts(os.path.join(build, 'meson-logs', 'testlog.json'))
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    seen = {name: [] for name in tests}
    for label, outcome in cases(os.path.join(build, 'meson-logs', 'testlog.junit.xml')):
        owner = max((name for name in tests if name in label), key=len, default=None)
        if owner:
            seen[owner].append(outcome)
        else:
            counts[outcome] += 1
    for name, verdict in tests.items():
        outcomes = seen[name]
        if verdict not in GOOD and verdict != 'SKIP' and 'failed' not in outcomes:
            # One case of its own, or the single pass that meson writes for a test that it ended.
            outcomes = [o for o in outcomes if len(seen[name]) > 1] + ['failed']
        elif not outcomes:
            outcomes = ['skipped' if verdict == 'SKIP' else 'passed']
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
