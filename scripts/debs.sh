# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# For the scripts that prepare guests in build/guests, which source it: Debian packages in debs/.

# only_one: waits until no other script prepares guests here
only_one() {
	exec 9>lock
	flock 9
}

# update_lists: fetches what apt knows of packages anew
update_lists() {
	if [ "$(id -u)" = 0 ]; then apt-get -qq update; else sudo apt-get -qq update; fi >&2
}

# download <package>: into debs/, where only whole files arrive. Lists of packages that are missing
# or older than the mirror are fetched once.
download() {
	rm -rf fetch
	mkdir fetch
	(cd fetch && apt-get -o APT::Sandbox::User=root -qq download "$1") >&2 || {
		update_lists
		(cd fetch && apt-get -o APT::Sandbox::User=root -qq download "$1") >&2
	}
	mv fetch/*.deb debs
	rmdir fetch
}
