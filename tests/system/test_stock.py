# SPDX-License-Identifier: MIT
"""Stock Debian kernels on the hypervisor."""
from machine import CLOUD, GENERIC, Guest, hospes, long

INIT = r'HOSPES-INIT-OK name={} cpus={} mem=\d+'
# A guest's own crash, or the hypervisor's: never in a good run.
BAD = r'Kernel panic|Oops|BUG:|soft lockup|rcu_sched self-detected|panic:'


def up(m, guests):
    m.expect_all([INIT.format(g.name, g.vcpus) for g in guests])


def test_one_guest_shell():
    a = Guest('a')
    with hospes([a], 'stock-shell', cpus=1) as m:
        up(m, [a])
        m.expect(r'a:/# ')
        m.command('echo $((6 * 7))', r'^(\S* ?)?42$')
        m.absent(BAD)


def test_two_shells():
    guests = [Guest('one'), Guest('two')]
    switch = '\x01' * 3
    with hospes(guests, 'stock-two-shells') as m:
        up(m, guests)
        m.expect(r'one:/# ', anywhere=True)
        m.command('echo $((6 * 7)) one', r'^(\S* ?)?42 one$')
        m.send(switch)
        m.expect(r'console of two')
        m.expect(r'two:/# ')
        m.command('echo $((6 * 8)) two', r'^(\S* ?)?48 two$')
        m.send('poweroff\n')
        m.expect(r'console of one')
        m.expect(r'guest two: ended')
        m.command('echo $((6 * 9)) still', r'^(\S* ?)?54 still$')
        m.send(switch)
        m.expect(r'console of the hypervisor')
        m.send('d')
        m.expect(r'one +running')
        m.absent(BAD)


def test_cloud_vcpus():
    guests = [Guest('one', vcpus=1), Guest('two', vcpus=2), Guest('four', vcpus=4)]
    with hospes(guests, 'stock-cloud') as m:
        up(m, guests)
        m.absent(BAD)


def test_generic_vcpus():
    guests = [Guest(n, kernel=GENERIC, memory=256, vcpus=v)
              for n, v in (('one', 1), ('two', 2), ('four', 4))]
    with hospes(guests, 'stock-generic') as m:
        up(m, guests)
        m.absent(BAD)


def test_smallest():
    guests = [Guest('cloud', memory=96, vcpus=4), Guest('generic', kernel=GENERIC, memory=96)]
    with hospes(guests, 'stock-smallest') as m:
        up(m, guests)
        m.absent(BAD)


def test_4_gib():
    a = Guest('a', memory=4096, vcpus=2)
    with hospes([a], 'stock-4gib', mem=5120) as m:
        up(m, [a])
        m.absent(BAD)


@long
def test_4_gib_generic():
    a = Guest('a', kernel=GENERIC, memory=4096, vcpus=4)
    with hospes([a], 'stock-4gib-generic', mem=5120) as m:
        up(m, [a])
        m.absent(BAD)


def test_poweroff_ends_only_one():
    guests = [Guest('gone', args='hospes.test=poweroff'), Guest('busy', args='hospes.test=busy:5')]
    with hospes(guests, 'stock-poweroff') as m:
        up(m, guests)
        m.expect(r'HOSPES-BUSY-OK rounds=[1-9]\d* broken=0 new_warnings=0')
        m.absent(BAD)


def test_crash_costs_only_itself():
    guests = [Guest('mad', args='hospes.test=panic panic=-1'),
              Guest('spin', vcpus=2, args='hospes.test=spin'),
              Guest('busy', args='hospes.test=busy:5')]
    with hospes(guests, 'stock-crash') as m:
        m.expect(r'Kernel panic - not syncing: sysrq triggered crash')
        m.expect(r'HOSPES-BUSY-OK rounds=[1-9]\d* broken=0', anywhere=True)


def test_crash_restart():
    mad = Guest('mad', args='hospes.test=panic panic=-1', keys='on_crash=restart')
    with hospes([mad], 'stock-restart') as m:
        up(m, [mad])
        m.expect(r'Kernel panic - not syncing')
        m.expect(INIT.format('mad', 1))


def test_reboot():
    a = Guest('a', args='hospes.test=reboot')
    with hospes([a], 'stock-reboot') as m:
        m.expect(INIT.format('a', 1))
        m.expect(INIT.format('a', 1))


def test_clock():
    a = Guest('a', vcpus=4, args='hospes.test=clock:5')
    with hospes([a], 'stock-clock') as m:
        result = m.expect(r'HOSPES-CLOCK-OK samples=[1-9]\d* backwards=0 .*drift_ppm=(\S+)\n')
        if abs(float(result.group(1))) > 1000:
            raise m.failure('clock drift of 0.1 % or more')
        m.absent(BAD)


@long
def test_busy_ten_minutes():
    guests = [Guest(n, vcpus=2, args='hospes.test=busy:600') for n in 'abcd']
    with hospes(guests, 'stock-busy-long') as m:
        up(m, guests)
        for _ in guests:
            m.expect(r'HOSPES-BUSY-OK rounds=[1-9]\d* broken=0 new_warnings=0', timeout=1800)
        m.absent(BAD)


@long
def test_sixteen_guests():
    guests = [Guest(f'g{i}', kernel=CLOUD, memory=96) for i in range(16)]
    with hospes(guests, 'stock-sixteen', mem=2560) as m:
        m.expect_all([INIT.format(g.name, 1) for g in guests], timeout=900)
        m.absent(BAD)


@long
def test_clock_ten_minutes():
    a = Guest('a', vcpus=4, args='hospes.test=clock:600')
    with hospes([a], 'stock-clock-long') as m:
        result = m.expect(r'HOSPES-CLOCK-OK samples=[1-9]\d* backwards=0 .*drift_ppm=(\S+)\n', 1800)
        if abs(float(result.group(1))) > 1000:
            raise m.failure('clock drift of 0.1 % or more')
