#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws docs/run.svg: a session of scripts/run.py in a terminal, as it is: picture.py [file]"""
import fcntl
import html
import os
import pty
import re
import select
import struct
import sys
import termios
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COLUMNS, ROWS, LIMIT = 108, 34, 120

# What is waited for, and typed then. \1 is Ctrl-A, \35 is Ctrl-].
SESSION = [
    (r'two\| Enter', ''), (r'\none:/# $', 'uname -sr\r'), (r'Linux.*\n.*one:/# $', '\1\1\1'),
    (r'two:/# $', 'cat /sys/hypervisor/type\r'), (r'xen\n.*two:/# $', '\1\1\1'),
    (r'h: help', 'd'), (r'two +running.*\n', '\35x'),
]
COLOURS = [(r'\[ *\d+\.\d+\] .*|\*\*\* .*', '#8ab4f8'), (r'\w+\| .*', '#c5a5f0'),
           (r' *\d+ \w+ +running .*', '#8ab4f8'), (r'\w+:/#.*', '#9fe29f')]


class Screen:
    """As much of a terminal as boot messages and a shell's line editor use."""

    def __init__(self):
        self.lines, self.column, self.rest = [''], 0, ''

    def feed(self, text):
        """Shows text; returns what the terminal answers."""
        answer = ''
        whole, self.rest = re.fullmatch(r'(.*?)(\x1b\[?[0-9;?]*)?', self.rest + text,
                                        re.DOTALL).groups('')
        for part in re.findall(r'\x1b\[[0-9;?]*[A-Za-z]|\x1b[^[]|[^\x1b]', whole):
            if part == '\x1b[6n':
                answer += f'\x1b[{min(len(self.lines), ROWS)};{self.column + 1}R'
            elif part == '\x1b[J' or part == '\x1b[K':
                self.lines[-1] = self.lines[-1][:self.column]
            elif part == '\r':
                self.column = 0
            elif part == '\b':
                self.column = max(self.column - 1, 0)
            elif part == '\n':
                self.lines.append(' ' * self.column)
            elif part >= ' ':
                if self.column == COLUMNS:
                    self.lines.append('')
                    self.column = 0
                line = self.lines[-1]
                self.lines[-1] = line[:self.column] + part + line[self.column + 1:]
                self.column += 1
        return answer


def record():
    """Plays the session; returns the lines on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(os.path.join(TOP, 'scripts/run.py'), ['run.py'])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('4H', ROWS, COLUMNS, 0, 0))
    screen, seen, limit = Screen(), 0, time.monotonic() + LIMIT
    for pattern, keys in SESSION:
        while not (match := re.search(pattern, '\n'.join(screen.lines)[seen:])):
            if time.monotonic() > limit:
                sys.exit(f'no {pattern!r} in time:\n' + '\n'.join(screen.lines))
            if select.select([terminal], [], [], 1)[0]:
                try:
                    text = os.read(terminal, 4096).decode('utf-8', 'replace')
                except OSError:         # nobody has the other end any more
                    sys.exit(f'it ended before {pattern!r}:\n' + '\n'.join(screen.lines))
                os.write(terminal, screen.feed(text).encode())
        seen += match.end() if keys else 0
        os.write(terminal, keys.encode())
    os.waitpid(pid, 0)
    return [line.rstrip() for line in screen.lines]


def draw(lines):
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * 8 + 32} '
           f'{len(lines) * 17 + 32}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" '
           'font-size="13" fill="#dde1e6" xml:space="preserve">',
           '<rect width="100%" height="100%" rx="8" fill="#16181d"/>']
    for row, line in enumerate(lines):
        colour = next((f' fill="{c}"' for p, c in COLOURS if re.fullmatch(p, line)), '')
        if line:
            out.append(f'<text x="16" y="{row * 17 + 29}"{colour} '
                       f'textLength="{len(line) * 8}">{html.escape(line)}</text>')
    return '\n'.join(out + ['</svg>', ''])


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, 'docs/run.svg')
    lines = record()
    while not lines[-1]:
        lines.pop()
    with open(path, 'w', encoding='utf-8') as f:
        f.write(draw(lines))


if __name__ == '__main__':
    main()
