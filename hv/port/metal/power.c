/* SPDX-License-Identifier: MIT */
/*
 * Reset and power-off, by whatever works.
 */
#include "hospes/log.h"
#include "port/metal/metal.h"

#define RESET_CONTROL 0xcf9
#define KEYBOARD 0x64
#define PM1_SCI_ENABLE 0x0001
#define PM1_SLEEP_ENABLE 0x2000

void port_reboot(void)
{
	static const struct __packed { uint16_t limit; uint64_t base; } no_idt;

	if (acpi.reset_port)
		outb(acpi.reset_port, acpi.reset_value);
	delay_us(10000);
	outb(RESET_CONTROL, 0x02);	/* a hard reset, */
	outb(RESET_CONTROL, 0x06);	/* now */
	delay_us(10000);
	outb(KEYBOARD, 0xfe);		/* pulse the reset line */
	delay_us(10000);
	for (;;)
		__asm__ volatile("lidt %0; int3" : : "m"(no_idt));
}

void port_sleep_write(uint16_t port, unsigned int size, uint32_t value)
{
	uint32_t word = port & 1 ? value << 8 : value;
	unsigned int type = word >> 10 & 7;
	bool a = (port & ~1u) == acpi.pm1a_control;

	if (!(word & PM1_SLEEP_ENABLE)) {
		port_io_write(port, size, value);
	} else if (acpi.has_s5 && type == acpi.s5_type[!a]) {
		log_info("the control domain switches the machine off");
		port_poweroff();
	} else {
		log_warn("sleep state with type %u is not supported", type);
	}
}

void port_poweroff(void)
{
	if (acpi.has_s5 && acpi.pm1a_control) {
		if (acpi.smi_command && acpi.acpi_enable &&
		    !(inw(acpi.pm1a_control) & PM1_SCI_ENABLE)) {
			outb(acpi.smi_command, acpi.acpi_enable);
			delay_us(100000);
		}
		outw(acpi.pm1a_control, (uint16_t)(acpi.s5_type[0] << 10 | PM1_SLEEP_ENABLE));
		if (acpi.pm1b_control)
			outw(acpi.pm1b_control,
			     (uint16_t)(acpi.s5_type[1] << 10 | PM1_SLEEP_ENABLE));
		delay_us(1000000);
	}
	log_err("this machine does not power off by itself: halted");
	halt_forever();
}
