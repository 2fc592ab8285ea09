#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks of the sources themselves: layering, headers, sizes, licence lines, ABI table, budget.

Exceptions stand in scripts/gates-exceptions.txt, one per line: <gate> <path>[:<function>] <reason>.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUDGET = 20000             # code lines of hv/, what a guest's isolation rests on
TEXT_BYTES = 160 << 10     # of the image
IMAGE_BYTES = 300 << 10     # of the file, stripped
FUNCTION_LINES = 100
FILE_LINES = 1200
COLUMNS = 100

FREESTANDING = {'limits.h', 'stdalign.h', 'stdarg.h', 'stdatomic.h', 'stdbool.h', 'stddef.h',
                'stdint.h', 'stdnoreturn.h'}
HEADER_FLAGS = ['-std=c11', '-ffreestanding', '-Wall', '-Wextra', '-Werror', '-Wshadow', '-Wvla',
                '-Wundef', '-Wstrict-prototypes', '-Wmissing-prototypes', '-Wno-unused-parameter',
                '-Ihv/include', '-Ihv', '-I.',
                '-fsyntax-only', '-x', 'c', '-']

problems = []
used_exceptions = set()


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def load_exceptions():
    """{(gate, place)} and a complaint about any without a reason."""
    out = set()
    for line in read('scripts/gates-exceptions.txt').splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        words = line.split(None, 2)
        if len(words) < 3:
            problems.append(f'exceptions: no reason: {line}')
        out.add(tuple(words[:2]))
    return out


def problem(gate, place, text):
    if (gate, place) in exceptions:
        used_exceptions.add((gate, place))
    else:
        problems.append(f'{gate}: {place}: {text}')


def sources():
    found = []
    for root in ('hv', 'unpack', 'image', 'tests', 'scripts', 'bench', '.ci'):
        for folder, dirs, files in os.walk(root):
            dirs[:] = sorted(d for d in dirs if d not in ('corpus', '__pycache__'))
            found += [os.path.join(folder, f) for f in sorted(files)]
    return found


def without_comments(text):
    """C text with comments and strings blanked, line numbers kept."""
    def blank(m):
        return '""' if m.group(0)[0] == '"' else re.sub(r'[^\n]', ' ', m.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def lines_matching(text, pattern):
    for number, line in enumerate(text.splitlines(), 1):
        m = re.search(pattern, line)
        if m:
            yield number, m


def is_logic(path):
    """hv/core and hv/x86 without the vendor folders: builds as a process too."""
    return re.match(r'hv/core/|hv/x86/[^/]+$', path) is not None


def check_layering(path, text):
    code = without_comments(text)
    for number, m in lines_matching(text, r'^\s*#\s*include\s*<([^>]+)>'):
        header = m.group(1)
        if header.startswith('xen/'):
            if path != 'hv/include/hospes/abi.h':
                problem('layering', path, f'line {number}: <{header}> only through hospes/abi.h')
        elif header not in FREESTANDING:
            problem('layering', path, f'line {number}: <{header}> is not freestanding')
    if is_logic(path) or path.startswith('hv/include/'):
        for number, m in lines_matching(code, r'\b(asm|__asm__|__asm)\b'):
            problem('layering', path, f'line {number}: {m.group(1)} outside a port or vendor folder')
        for number, m in lines_matching(code, r'#\s*if.*\b(HOSPES_TEST|HOSPES_FUZZ)\b'):
            problem('layering', path, f'line {number}: depends on {m.group(1)}')
        for number, m in lines_matching(code, r'\b(float|double)\b'):
            problem('layering', path, f'line {number}: floating point')
    if is_logic(path):
        for number, m in lines_matching(text, r'^\s*#\s*include\s*"([^"]*/(svm|vmx|port)/[^"]*)"'):
            problem('layering', path, f'line {number}: reaches into {m.group(1)}')
    for number, m in lines_matching(code, r'__(DATE|TIME)__'):
        problem('layering', path, f'line {number}: builds must be reproducible')


def check_text(path, text):
    head = '\n'.join(text.splitlines()[:2])
    if re.search(r'\.(c|h|S|lds|def|py|sh)$', path) and 'SPDX-License-Identifier: MIT' not in head:
        problem('spdx', path, 'no SPDX line at the top')
    if not re.search(r'\.(c|h|S)$', path):     # tables (.def) have one row per line
        return
    for number, line in enumerate(text.splitlines(), 1):
        if len(line.expandtabs(8)) > COLUMNS:
            problem('columns', path, f'line {number} is longer than {COLUMNS} columns')
        if line != line.rstrip():
            problem('columns', path, f'line {number} ends with white space')
    if text.count('\n') > FILE_LINES:
        problem('file-lines', path, f'{text.count(chr(10))} lines, at most {FILE_LINES}')


def check_header(path, text):
    if path.startswith('hv/include/'):
        name = os.path.basename(path)[:-2].upper()
        if f'#ifndef HOSPES_{name}_H' not in text:
            problem('header', path, f'no guard HOSPES_{name}_H')
    result = subprocess.run(['gcc', *HEADER_FLAGS], input=f'#include "{path}"\nint unused;\n'
                            .replace('"hv/include/', '"').replace('"hv/', '"'),
                            text=True, capture_output=True)
    if result.returncode:
        problem('header', path, 'does not compile alone:\n' + result.stderr)


def check_functions(paths):
    result = subprocess.run(['ctags', '--output-format=json', '--fields=+ne', '--kinds-C=f',
                             '--language-force=C', '-o', '-', *paths],
                            text=True, capture_output=True, check=True)
    for line in result.stdout.splitlines():
        tag = json.loads(line)
        length = tag.get('end', tag['line']) - tag['line'] + 1
        if length > FUNCTION_LINES:
            problem('function-lines', f"{tag['path']}:{tag['name']}",
                    f'{length} lines, at most {FUNCTION_LINES}')


def report_lines():
    """Code lines per folder. The budget covers all of hv/, build files included."""
    result = subprocess.run(['cloc', '--json', '--by-file', '--quiet', '--skip-uniqueness',
                             '--force-lang=C,def', '--force-lang=C,lds', 'hv'],
                            text=True, capture_output=True)
    folders = {}
    for path, entry in json.loads(result.stdout).items():
        if path not in ('header', 'SUM'):
            folder = os.path.dirname(path)
            folders[folder] = folders.get(folder, 0) + entry['code']
    total = sum(folders.values())
    for folder in sorted(folders):
        print(f'  {folders[folder]:6} {folder}')
    print(f'  {total:6} of {BUDGET} code lines in hv/')
    if total > BUDGET:
        problem('budget', 'hv', f'{total} code lines, at most {BUDGET}')


def report_image():
    """Sizes of the image, where it has been built: its text, and the file without symbols."""
    image = os.path.join(TOP, 'build/gcc/hospes.elf')
    if not os.path.exists(image):
        return
    sizes = subprocess.run(['size', '-A', image], text=True, capture_output=True, check=True)
    text = int(re.search(r'^\.text +(\d+)', sizes.stdout, re.MULTILINE).group(1))
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(['strip', '-o', stripped.name, image], check=True)
        whole = os.path.getsize(stripped.name)
    for what, size, limit in ('text', text, TEXT_BYTES), ('file', whole, IMAGE_BYTES):
        print(f'  {size:6} of {limit} bytes of the image: {what}')
        if size > limit:
            problem('image', what, f'{size} bytes, at most {limit}')


def main():
    todo = 0
    c_files = []
    for path in sources():
        try:
            text = read(path)
        except UnicodeDecodeError:
            continue
        check_text(path, text)
        if re.search(r'\.(c|h)$', path):
            c_files.append(path)
            todo += len(re.findall(r'\bTODO\b', text))
        if re.match(r'hv/.*\.(c|h|def)$', path):
            check_layering(path, text)
        if re.match(r'hv/.*\.h$', path):
            check_header(path, text)
    check_functions([p for p in c_files if p.endswith('.c')])
    if subprocess.run(['scripts/abi-table.py', '--check']).returncode:
        problem('abi', 'docs/abi.md', 'is not what scripts/abi-table.py makes')
    report_lines()
    report_image()
    print(f'  {todo:6} TODO')
    for stale in exceptions - used_exceptions:
        problems.append('exceptions: not needed any more: ' + ' '.join(stale))
    for p in problems:
        print('gate ' + p, file=sys.stderr)
    print(f'gates: {len(problems)} problems')
    return 1 if problems else 0


os.chdir(TOP)
exceptions = load_exceptions()
if __name__ == '__main__':
    sys.exit(main())
