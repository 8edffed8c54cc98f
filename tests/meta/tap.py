# SPDX-License-Identifier: MIT
"""tap.py - what the meta tests share: TAP output (one line a case, which meson counts), and reading C without comments."""
import re
import sys

_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


class Tap:
    def __init__(self):
        self.count = 0
        self.failures = 0

    def case(self, name, complaints):
        """A case passes when there is nothing to complain about."""
        self.count += 1
        verdict = 'not ok' if complaints else 'ok'
        self.failures += bool(complaints)
        print(f'{verdict} {self.count} - {name}')
        for complaint in complaints:
            for line in str(complaint).rstrip().splitlines():
                print(f'# {line}', file=sys.stderr)      # meson shows this stream of a failed test
        sys.stdout.flush()

    def skip(self, name, why):
        self.count += 1
        print(f'ok {self.count} - {name} # SKIP {why}')

    def end(self):
        print(f'1..{self.count}')
        return 1 if self.failures or not self.count else 0


def strip_comments(text, strings=False):
    """The code alone, every line where it was; with strings=True the contents of literals go too."""
    def blank(match):
        token = match.group(0)
        if token.startswith('/'):
            return ' ' + '\n' * token.count('\n')
        return token[0] + token[-1] if strings else token
    return _TOKEN.sub(blank, text)
