/* SPDX-License-Identifier: MIT */
/*
 * What the stock guests run as tests. Every result is one line beginning with
 * HOSPES- that the drivers in tests/system look for.
 *
 *   probe report <name>      the guest is up: CPUs, memory, warnings so far
 *   probe warnings           kernel log lines at level warning or worse
 *   probe busy <seconds>     load on every CPU, then new warnings
 *   probe clock <seconds>    monotonic time across CPUs, and its rate
 *   probe spin               every CPU in user mode for ever
 *   probe dma [<count>]      QEMU's edu device reads and writes inside of this system's memory
 *                            and, <count> times, memory that is others'
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define MAX_CPUS 64

static int nr_cpus;
static atomic_bool stop;

static uint64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* What a kernel says when the machine around the emulator was busy and it had to wait. */
static bool is_about_speed(const char *text)
{
	return strstr(text, "hrtimer: interrupt took") || strstr(text, "Long readout interval") ||
	       strstr(text, "read-back delay");
}

/*
 * Counts kernel log records of level warning (4) or worse with a sequence number of at
 * least *from, prints them if asked, and moves *from behind the last.
 */
static unsigned int warnings(uint64_t *from, int print)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	unsigned int nr = 0;
	char line[8192];
	ssize_t len;

	while (fd >= 0 && (len = read(fd, line, sizeof(line) - 1)) > 0) {
		unsigned int prio;
		unsigned long long seq;
		char *text, *end;

		line[len] = '\0';
		text = strchr(line, ';');
		if (sscanf(line, "%u,%llu", &prio, &seq) != 2 || !text || seq < *from)
			continue;
		*from = seq + 1;
		if ((prio & 7) > 4 || is_about_speed(text))
			continue;
		nr++;
		end = strchr(text, '\n');
		if (end)
			*end = '\0';
		if (print)
			printf("HOSPES-WARNING level=%u %s\n", prio & 7, text + 1);
	}
	if (fd >= 0)
		close(fd);
	return nr;
}

static long read_number(const char *path)
{
	FILE *f = fopen(path, "r");
	long v = -1;

	if (f && fscanf(f, "%ld", &v) != 1)
		v = -1;
	if (f)
		fclose(f);
	return v;
}

static long mem_mib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	long kib = 0;

	if (f && fscanf(f, "MemTotal: %ld", &kib) != 1)
		kib = 0;
	if (f)
		fclose(f);
	return kib / 1024;
}

static void report(const char *name)
{
	uint64_t seq = 0;
	unsigned int nr = warnings(&seq, 1);

	printf("HOSPES-INIT-OK name=%s cpus=%d mem=%ld warnings=%u taint=%ld uptime_us=%llu\n",
	       name, nr_cpus, mem_mib(), nr, read_number("/proc/sys/kernel/tainted"),
	       (unsigned long long)now(CLOCK_BOOTTIME) / 1000);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Starts one thread per CPU, lets them run, and waits until they are done. */
static void on_every_cpu(void *(*fn)(void *), int seconds)
{
	pthread_t threads[MAX_CPUS];

	for (intptr_t i = 0; i < nr_cpus; i++)
		pthread_create(&threads[i], NULL, fn, (void *)i);
	if (seconds >= 0) {
		sleep((unsigned int)seconds);
		stop = true;
	}
	for (int i = 0; i < nr_cpus; i++)
		pthread_join(threads[i], NULL);
}

/* --- busy ---------------------------------------------------------------- */

static atomic_ulong rounds;
static atomic_uint broken;

/* Arithmetic with a known result, SSE state across switches, page faults, timers. */
static void *busy_thread(void *arg)
{
	uint64_t x = 88172645463325252ull + (uint64_t)(intptr_t)arg;
	double sum = 0;

	pin((int)(intptr_t)arg);
	while (!stop) {
		size_t len = 64 * 4096;
		uint64_t *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		double part = 0;

		if (mem == MAP_FAILED) {
			broken++;
			break;
		}
		for (size_t i = 0; i < len / sizeof(*mem); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			broken += mem[i] != 0;
			mem[i] = x;
		}
		for (int i = 1; i <= 1000; i++)
			part += (double)i * 0.5;
		broken += part != 250250.0;
		sum += part;
		munmap(mem, len);
		rounds++;
		if (rounds % 16 == 0)
			usleep(1000);
		else
			sched_yield();
	}
	return sum < 0 ? arg : NULL;
}

static int busy(int seconds)
{
	uint64_t seq = 0;
	unsigned int before = warnings(&seq, 0);
	unsigned int fresh;

	printf("HOSPES-BUSY-START cpus=%d seconds=%d warnings=%u\n", nr_cpus, seconds, before);
	on_every_cpu(busy_thread, seconds);
	fresh = warnings(&seq, 1);
	printf("HOSPES-BUSY-%s rounds=%lu broken=%u new_warnings=%u taint=%ld\n",
	       fresh || broken ? "FAIL" : "OK", rounds, broken, fresh,
	       read_number("/proc/sys/kernel/tainted"));
	return 0;
}

/* --- clock --------------------------------------------------------------- */

static _Atomic uint64_t latest;
static atomic_ulong samples, backwards;
static _Atomic uint64_t worst;

/* Time read after another CPU published its own must not be earlier. */
static void *clock_thread(void *arg)
{
	pin((int)(intptr_t)arg);
	while (!stop) {
		for (int i = 0; i < 1000; i++) {
			uint64_t seen = latest;
			uint64_t t = now(CLOCK_MONOTONIC);

			if (t < seen) {
				backwards++;
				if (seen - t > worst)
					worst = seen - t;
				continue;
			}
			while (seen < t && !atomic_compare_exchange_weak(&latest, &seen, t))
				;
		}
		samples += 1000;
		sched_yield();
	}
	return NULL;
}

/* The TSC rate the hypervisor states, or 0: leaf 3 of the ABI's CPUID range. */
static uint64_t stated_tsc_khz(void)
{
	unsigned int a, b, c, d;

	__cpuid_count(0x40000000, 0, a, b, c, d);
	if (b != 0x566e6558 || c != 0x65584d4d || d != 0x4d4d566e)
		return 0;
	__cpuid_count(0x40000003, 0, a, b, c, d);
	return c;
}

static int clock_test(int seconds)
{
	uint64_t khz = stated_tsc_khz();
	uint64_t mono, real, tsc;

	printf("HOSPES-CLOCK-START cpus=%d seconds=%d\n", nr_cpus, seconds);
	pin(0);
	tsc = __rdtsc();
	mono = now(CLOCK_MONOTONIC);
	real = now(CLOCK_REALTIME);
	on_every_cpu(clock_thread, seconds);
	pin(0);
	tsc = __rdtsc() - tsc;
	mono = now(CLOCK_MONOTONIC) - mono;
	real = now(CLOCK_REALTIME) - real;
	printf("HOSPES-CLOCK-%s samples=%lu backwards=%lu worst_ns=%llu mono_ns=%llu real_ns=%llu",
	       backwards ? "FAIL" : "OK", samples, backwards, (unsigned long long)worst,
	       (unsigned long long)mono, (unsigned long long)real);
	if (khz) {
		double expected = (double)tsc * 1e6 / (double)khz;

		printf(" tsc_khz=%llu drift_ppm=%.1f", (unsigned long long)khz,
		       ((double)mono - expected) * 1e6 / expected);
	}
	printf("\n");
	return 0;
}

static void *spin_thread(void *arg)
{
	pin((int)(intptr_t)arg);
	for (;;)
		__builtin_ia32_pause();
	return NULL;
}

/* --- dma ----------------------------------------------------------------- */

enum { EDU_SOURCE = 0x80, EDU_TARGET = 0x88, EDU_COUNT = 0x90, EDU_COMMAND = 0x98 };

#define EDU_BUFFER 0x40000u	/* as the device names its own memory */
#define EDU_LENGTH 2048u	/* it refuses its last byte */
#define PAGE 4096u

static char edu_path[300];

/* Opens a file of the device; finds the device first. */
static int edu_open(const char *file)
{
	char path[400];
	glob_t all;

	if (!edu_path[0] && !glob("/sys/bus/pci/devices/*", 0, NULL, &all)) {
		for (size_t i = 0; i < all.gl_pathc; i++) {
			char id[8] = "";
			FILE *f;

			snprintf(path, sizeof(path), "%s/device", all.gl_pathv[i]);
			f = fopen(path, "r");
			if (f && fgets(id, sizeof(id), f) && !strncmp(id, "0x11e8", 6))
				snprintf(edu_path, sizeof(edu_path), "%s", all.gl_pathv[i]);
			if (f)
				fclose(f);
		}
	}
	snprintf(path, sizeof(path), "%s/%s", edu_path, file);
	return open(path, O_RDWR);
}

static void edu_transfer(volatile uint8_t *regs, uint64_t from, uint64_t to, bool out)
{
	*(volatile uint64_t *)(regs + EDU_SOURCE) = from;
	*(volatile uint64_t *)(regs + EDU_TARGET) = to;
	*(volatile uint64_t *)(regs + EDU_COUNT) = EDU_LENGTH;
	*(volatile uint64_t *)(regs + EDU_COMMAND) = out ? 3 : 1;
	while (*(volatile uint64_t *)(regs + EDU_COMMAND) & 1)
		usleep(1000);
}

static uint64_t physical(const void *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t e = 0;

	if (fd < 0 || pread(fd, &e, sizeof(e), (off_t)((uintptr_t)page / PAGE * sizeof(e))) < 0)
		e = 0;
	close(fd);
	return (e & ((1ull << 55) - 1)) * PAGE;
}

/* A page of RAM that the memory map says is not ours to use. */
static uint64_t others_page(void)
{
	FILE *f = fopen("/proc/iomem", "r");
	unsigned long long start, end, found = 0;
	char line[200];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx-%llx", &start, &end) == 2 && strstr(line, "Unusable") &&
		    end - start > 16 * PAGE)
			found = (start + end) / 2 / PAGE * PAGE;
	}
	if (f)
		fclose(f);
	return found;
}

static int dma_test(int count)
{
	int config = edu_open("config"), bar = edu_open("resource0");
	volatile uint8_t *regs = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
	uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
	uint16_t command = 0;
	uint64_t others = others_page(), from, to;
	bool reached = false;

	if (config < 0 || regs == MAP_FAILED || pages == MAP_FAILED || !others ||
	    pread(config, &command, 2, 4) != 2) {
		printf("HOSPES-DMA-FAIL no device, or no memory of others\n");
		return 1;
	}
	command |= 6;			/* memory space and bus mastering */
	if (pwrite(config, &command, 2, 4) != 2)
		return 1;
	for (unsigned int i = 0; i < PAGE; i++)
		pages[i] = (uint8_t)(i * 7 + 1);
	memset(pages + PAGE, 0, PAGE);
	from = physical(pages);
	to = physical(pages + PAGE);
	edu_transfer(regs, from, EDU_BUFFER, false);
	edu_transfer(regs, EDU_BUFFER, to, true);
	printf("HOSPES-DMA-INSIDE %s\n", memcmp(pages, pages + PAGE, EDU_LENGTH) ? "FAIL" : "OK");
	for (int i = 0; i < count; i++) {
		/* There, and back by way of what the device had from somewhere else. */
		edu_transfer(regs, from, EDU_BUFFER, false);
		edu_transfer(regs, EDU_BUFFER, others, true);
		memset(pages + PAGE, 0x55, PAGE);
		edu_transfer(regs, to, EDU_BUFFER, false);
		edu_transfer(regs, others, EDU_BUFFER, false);
		edu_transfer(regs, EDU_BUFFER, to, true);
		reached |= !memcmp(pages, pages + PAGE, EDU_LENGTH);
	}
	printf("HOSPES-DMA-OUTSIDE %s at=%llx\n", reached ? "REACHED" : "BLOCKED",
	       (unsigned long long)others);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int number = argc > 2 ? atoi(argv[2]) : 10;
	uint64_t seq = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	nr_cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (nr_cpus > MAX_CPUS)
		nr_cpus = MAX_CPUS;
	if (!strcmp(what, "report")) {
		report(argc > 2 ? argv[2] : "guest");
	} else if (!strcmp(what, "warnings")) {
		printf("HOSPES-WARNINGS %u\n", warnings(&seq, 1));
	} else if (!strcmp(what, "busy")) {
		return busy(number);
	} else if (!strcmp(what, "clock")) {
		return clock_test(number);
	} else if (!strcmp(what, "dma")) {
		return dma_test(argc > 2 ? number : 1);
	} else if (!strcmp(what, "spin")) {
		printf("HOSPES-SPIN\n");
		on_every_cpu(spin_thread, -1);
	} else if (!strcmp(what, "run") && argc > 2) {
		/* In the background a shell ignores these, and so would all below it. */
		signal(SIGINT, SIG_DFL);
		signal(SIGQUIT, SIG_DFL);
		execvp(argv[2], argv + 2);
		return 127;
	} else {
		fprintf(stderr, "probe: report, warnings, busy, clock, dma, spin or run\n");
		return 2;
	}
	return 0;
}
