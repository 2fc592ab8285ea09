/* SPDX-License-Identifier: MIT */
/*
 * Guest consoles on the serial line. See console.h.
 *
 * The guest with the focus has the line to itself, byte by byte. Lines of the
 * others, and of every guest's debug port, appear whole with the guest's name
 * in front; what the focus had on its unfinished line moves down for them.
 *
 * The ring's page belongs to the guest: our own indices are the truth, its
 * are read once and checked, and one notification costs at most one ring.
 */
#include "hospes/console.h"

#include "hospes/domain.h"
#include "hospes/log.h"

#define LINE_SIZE 200u
#define CTRL_A 1
#define ESC '\033'
#define CLEAR_LINE "\r\033[K"
#define ESCAPES 3u	/* so many in a row move the focus */

struct line {
	size_t len;
	char escape;		/* last byte of a control sequence's start, ESC or [; 0: none */
	char text[LINE_SIZE];
};

struct console_ring {
	struct domain *domain;		/* borrowed: detached before it goes */
	struct console_ring *next;
	struct guest_pin pin;		/* of the ring; va NULL: the control domain, without one */
	uint32_t port;
	uint32_t out_cons, in_prod;	/* never read back from the page */
	uint32_t typed_cons;		/* the control domain's input: in_prod is its end */
	char typed[256];
	struct line out, debug;		/* unfinished lines of ring and debug port */
};

static struct {
	struct spinlock lock;		/* all below, and every ring */
	struct console_ring *first, *focus;	/* focus NULL: the hypervisor */
	bool chosen;			/* the operator gave the hypervisor the focus */
	unsigned int escapes;		/* CPU 0 */
} mux = { .lock = SPINLOCK(LOCK_MUX) };

/* --- Output --------------------------------------------------------------- */

void console_printf(const char *fmt, ...)
{
	char text[256], out[2 * sizeof(text)];
	size_t len = 0;
	va_list ap;

	va_start(ap, fmt);
	hv_vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (const char *p = text; *p; p++) {
		if (*p == '\n')
			out[len++] = '\r';
		out[len++] = *p;
	}
	port_console_write(out, len);
}

/* Writes @len bytes of whole lines above the unfinished one of the focus. */
static void write_above(const char *text, size_t len)
{
	const struct line *open = mux.focus && mux.focus->out.len ? &mux.focus->out : NULL;

	if (open)
		port_console_write(CLEAR_LINE, strlen(CLEAR_LINE));
	port_console_write(text, len);
	if (open)
		port_console_write(open->text, open->len);
}

void console_write_log(const char *text, size_t len)
{
	if (spin_trylock(&mux.lock)) {
		write_above(text, len);
		spin_unlock(&mux.lock);
	} else {
		port_console_write(text, len);
	}
}

static void write_line(const struct console_ring *r, const struct line *l)
{
	char text[sizeof(r->domain->name) + LINE_SIZE + 8];

	write_above(text, (size_t)hv_snprintf(text, sizeof(text), "%s| %.*s\r\n",
					      r->domain->name, (int)l->len, l->text));
}

/*
 * Does @c show? Control sequences are left out: shown a second time they would
 * make the terminal answer again, or reach a line that is not theirs.
 */
static bool shows(struct line *l, char c)
{
	char was = l->escape;

	if (was == '[')
		l->escape = c < '@' ? was : 0;
	else
		l->escape = c == ESC || (was == ESC && c == '[') ? c : 0;
	return !was && (c == '\t' || (uint8_t)c >= ' ');
}

/* A whole line is shown when it ends or is full, unless it is @raw: shown already, or empty. */
static void line_add(const struct console_ring *r, struct line *l, char c, bool raw)
{
	if (shows(l, c) && l->len < LINE_SIZE)
		l->text[l->len++] = c;
	if (c != '\n' && (raw || l->len < LINE_SIZE))
		return;
	if (!raw && l->len)
		write_line(r, l);
	l->len = 0;
}

static void write_out(struct console_ring *r, const char *text, size_t len)
{
	bool raw = r == mux.focus;

	if (raw)
		port_console_write(text, len);
	for (size_t i = 0; i < len; i++)
		line_add(r, &r->out, text[i], raw);
}

/* True when the ring was full: then a guest may wait for room, and wants to be told. */
static bool ring_drain(struct console_ring *r)
{
	struct xencons_interface *page = r->pin.va;
	uint32_t prod = __atomic_load_n(&page->out_prod, __ATOMIC_ACQUIRE);
	uint32_t used = prod - r->out_cons;
	bool full = used == sizeof(page->out);
	char buf[256];

	if (used > sizeof(page->out)) {		/* nonsense: begin anew from there */
		r->out_cons = prod;
		used = 0;
	}
	for (uint32_t n; used; r->out_cons += n, used -= n) {
		uint32_t at = r->out_cons % sizeof(page->out);

		n = MIN(used, MIN((uint32_t)(sizeof(page->out) - at), (uint32_t)sizeof(buf)));
		memcpy(buf, page->out + at, n);
		write_out(r, buf, n);
	}
	__atomic_store_n(&page->out_cons, r->out_cons, __ATOMIC_RELEASE);
	return full;
}

static void ring_notify(struct domain *d, uint32_t port)
{
	bool full;

	spin_lock(&mux.lock);
	full = d->console && ring_drain(d->console);
	spin_unlock(&mux.lock);
	if (full)
		evtchn_notify_guest(d, port);
}

void console_debug_byte(struct domain *d, uint8_t c)
{
	spin_lock(&mux.lock);
	if (d->console)
		line_add(d->console, &d->console->debug, (char)c, false);
	spin_unlock(&mux.lock);
}

void console_control_write(struct domain *d, const char *text, size_t len)
{
	spin_lock(&mux.lock);
	if (d->console)
		write_out(d->console, text, len);
	spin_unlock(&mux.lock);
}

size_t console_control_read(struct domain *d, char *buf, size_t size)
{
	struct console_ring *r;
	size_t n = 0;

	spin_lock(&mux.lock);
	r = d->console;
	while (r && !r->pin.va && n < size && r->typed_cons != r->in_prod)
		buf[n++] = r->typed[r->typed_cons++ % sizeof(r->typed)];
	spin_unlock(&mux.lock);
	return n;
}

/* --- Focus and input ------------------------------------------------------ */

static void focus_set(struct console_ring *r)
{
	if (mux.focus && mux.focus->out.len)
		console_printf("\n");
	mux.focus = r;
	console_printf("*** console of %s (Ctrl-A three times: next%s) ***\n",
		       r ? r->domain->name : "the hypervisor", r ? "" : "; h: help");
	if (r)
		port_console_write(r->out.text, r->out.len);
}

/* What does not fit is lost, as on any serial line. */
static void ring_input(struct console_ring *r, char c)
{
	struct xencons_interface *page = r->pin.va;
	uint32_t cons;

	if (!page) {
		if (r->in_prod - r->typed_cons < sizeof(r->typed))
			r->typed[r->in_prod++ % sizeof(r->typed)] = c;
		return;
	}
	cons = __atomic_load_n(&page->in_cons, __ATOMIC_ACQUIRE);
	if (r->in_prod - cons < sizeof(page->in)) {
		page->in[r->in_prod % sizeof(page->in)] = c;
		__atomic_store_n(&page->in_prod, ++r->in_prod, __ATOMIC_RELEASE);
	}
}

static void input(char c)
{
	struct domain *d = NULL;
	uint32_t port = 0;

	spin_lock(&mux.lock);
	if (mux.focus) {
		ring_input(mux.focus, c);
		port = mux.focus->port;
		d = mux.focus->domain;
		domain_get(d);
	}
	spin_unlock(&mux.lock);
	if (d) {
		if (port)
			evtchn_notify_guest(d, port);
		else
			evtchn_global_virq(VIRQ_CONSOLE);
		domain_put(d);
	} else {
		key_press(c, false);
	}
}

/* Ctrl-A waits for the key behind it: fewer in a row are the guest's. */
static void input_key(char c)
{
	if (c == CTRL_A) {
		if (++mux.escapes < ESCAPES)
			return;
		mux.escapes = 0;
		spin_lock(&mux.lock);
		focus_set(mux.focus ? mux.focus->next : mux.first);
		mux.chosen = !mux.focus;
		spin_unlock(&mux.lock);
		return;
	}
	for (; mux.escapes; mux.escapes--)
		input(CTRL_A);
	input(c);
}

void console_input_ready(void)
{
	softirq_raise(0, SOFTIRQ_CONSOLE);
}

void console_poll(void)
{
	int c;

	while ((c = port_console_read()) >= 0)
		input_key((char)c);
}

/* --- Life ------------------------------------------------------------------ */

/* Last in the order of the focus. */
static void ring_add(struct console_ring *r)
{
	struct console_ring **p;

	spin_lock(&mux.lock);
	r->domain->console = r;
	for (p = &mux.first; *p; p = &(*p)->next)
		;
	*p = r;
	if (!mux.focus && !mux.chosen)
		focus_set(r);
	spin_unlock(&mux.lock);
}

int console_attach_control(struct domain *d)
{
	struct console_ring *r = hv_alloc(sizeof(*r));

	if (!r)
		return -XEN_ENOMEM;
	r->domain = d;
	ring_add(r);
	return 0;
}

int console_attach(struct domain *d, gfn_t gfn)
{
	struct console_ring *r = hv_alloc(sizeof(*r));
	int rc = -XEN_ENOMEM;

	if (!r)
		return rc;
	r->domain = d;
	rc = guest_pin(d, gfn, &r->pin);
	if (rc)
		goto err_free;
	rc = evtchn_alloc_hv(d, ring_notify);
	if (rc < 0)
		goto err_unpin;
	r->port = (uint32_t)rc;
	spin_lock(&d->lock);
	d->params[HVM_PARAM_CONSOLE_PFN] = gfn.v;
	d->params[HVM_PARAM_CONSOLE_EVTCHN] = r->port;
	spin_unlock(&d->lock);
	ring_add(r);
	return 0;

err_unpin:
	guest_unpin(&r->pin);
err_free:
	hv_free(r);
	return rc;
}

void console_detach(struct domain *d)
{
	struct console_ring *r, **p;

	spin_lock(&mux.lock);
	r = d->console;
	d->console = NULL;
	if (r) {
		if (r->pin.va)
			(void)ring_drain(r);
		if (r->debug.len)
			write_line(r, &r->debug);
		if (r->out.len && r != mux.focus)
			write_line(r, &r->out);
		for (p = &mux.first; *p != r; p = &(*p)->next)
			;
		*p = r->next;
		if (r == mux.focus)
			focus_set(r->next ? r->next : mux.first);
	}
	spin_unlock(&mux.lock);
	if (r)
		guest_unpin(&r->pin);
	hv_free(r);
}
