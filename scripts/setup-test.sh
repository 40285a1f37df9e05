#!/usr/bin/env bash
# List what the tests need beside Go, and install what is missing.
#
# As root on Debian (or Ubuntu) the missing packages are installed; the package
# lists are fetched only if they're too old or empty. As an ordinary user the
# script changes nothing: it says what is missing and which tests are skipped.
set -euo pipefail

# program, Debian package, what it's for
needs() {
	cat <<-'LIST'
		gcc       gcc             the race detector in the unit tests
		git       git             the version in the binary
		make      make            this
		curl      curl            fetching the application as a user would
		ssh       openssh-client  reading the written ssh_config with ssh -G
		openssl   openssl         reading the written certificates as a user would
		haproxy   haproxy         a load balancer in front of the cluster
		getfacl   acl             the ACLs on written files
		setfacl   acl             the ACLs on written files
		systemd-analyze systemd           checking the unit file
		systemd-nspawn  systemd-container a real systemd as PID 1
		debootstrap     debootstrap       the root file system for it
		nsenter         util-linux        running programs beside it
		mkfs.vfat       dosfstools        a file system without ACLs
		fusefat         fusefat           the same where the kernel has no vfat
		docker          docker.io         real containers
		bindfs          bindfs            modes on it, as the kernel would show them
	LIST
}

# packages prints the missing packages, each once.
packages() {
	needs | while read -r program package _; do
		command -v "$program" >/dev/null || echo "$package"
	done | sort -u
}

# table prints every need and if it's there.
table() {
	needs | while read -r program package purpose; do
		if path=$(command -v "$program"); then
			printf '  %-15s %-17s %s\n' "$program" there "$path"
		else
			printf '  %-15s %-17s %s: %s\n' "$program" missing "package $package" "$purpose"
		fi
	done
}

# install installs the given packages, with fresh package lists only if the
# ones that are there don't do.
install() {
	export DEBIAN_FRONTEND=noninteractive
	local apt=(apt-get install -y -q --no-install-recommends "$@")
	echo "running: ${apt[*]}"
	if "${apt[@]}"; then
		return 0
	fi
	echo "running: apt-get update (the package lists don't know these packages, or are too old)"
	apt-get update -q
	"${apt[@]}"
}

echo "what the tests use:"
echo "  go         $(go version)"
table
mapfile -t missing < <(packages)
if [ "${#missing[@]}" -eq 0 ]; then
	echo "nothing is missing"
elif [ "$(id -u)" -ne 0 ]; then
	echo "missing: ${missing[*]}; only root can install packages, so nothing was changed."
	echo "The tests that need them are skipped. To have them run:"
	echo "  sudo apt-get install ${missing[*]}"
elif ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]}, and there is no apt-get here: install what corresponds to them" >&2
	exit 1
else
	install "${missing[@]}"
	mapfile -t missing < <(packages)
	if [ "${#missing[@]}" -gt 0 ]; then
		echo "still missing after the installation: ${missing[*]}" >&2
		exit 1
	fi
fi
if command -v docker >/dev/null && ! docker --host unix:///var/run/docker.sock info >/dev/null 2>&1; then
	echo "No Docker Engine answers at /var/run/docker.sock, or not to this user: the tests of discovery that need containers will fail."
	echo "Start it (as root: systemctl start docker, or dockerd &), and be root or a member of the group docker."
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "not root: tests that give files to another user are skipped, and say so"
fi
