#!/bin/busybox sh
# PID 1 of the test guest. The host's root file system is the guest's, read-only below a layer in
# RAM; VM_DIRECTORY alone is shared for writing. Commands come over a virtio-serial port.
#
# VM_DIRECTORY, VM_DRIVER, VM_HUGEPAGES, VM_NICS stand on the kernel's command line: it hands
# NAME=value words that it does not know to init as environment.

/bin/busybox --install -s /bin
export PATH=/bin

die() {
    echo "vm_init: $*"
    poweroff -f
}

need() {
    "$@" || die "failed: $*"
}

# A NIC is bound to nothing but what was asked for: "kernel" means the driver that claims it.
bind_nic() {
    device=/sys/bus/pci/devices/$1
    [ -d "$device" ] || die "no PCI device $1"
    if [ "$VM_DRIVER" != kernel ]; then
        [ ! -e "$device/driver" ] || echo "$1" > "$device/driver/unbind"
    fi
    case $VM_DRIVER in kernel | none) return ;; esac
    echo "$VM_DRIVER" > "$device/driver_override"
    echo "$1" > /sys/bus/pci/drivers_probe
    [ -e "$device/driver" ] || die "$VM_DRIVER did not take $1"
}

mount_root() {
    share=trans=virtio,version=9p2000.L,msize=512000
    need mount -t 9p -o ro,cache=loose,$share root /host
    need mount -t tmpfs -o mode=755 ram /ram
    mkdir /ram/upper /ram/work
    need mount -t overlay -o lowerdir=/host,upperdir=/ram/upper,workdir=/ram/work root /new
    for name in proc sys dev; do
        mkdir -p /new/$name
        need mount --bind /$name /new/$name
    done
    need mount -t tmpfs -o mode=755 run /new/run
    mkdir -p "/new$VM_DIRECTORY" /dev/shm /dev/pts /dev/hugepages
    need mount -t tmpfs shm /new/dev/shm
    need mount -t devpts pts /new/dev/pts
    need mount -t hugetlbfs huge /new/dev/hugepages
    need mount -t 9p -o rw,cache=none,$share shared "/new$VM_DIRECTORY"
    ln -s /proc/self/fd /dev/fd
}

set_hugepages() {
    pool=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
    echo "$VM_HUGEPAGES" > $pool
    [ "$(cat $pool)" = "$VM_HUGEPAGES" ] || die "$(cat $pool) of $VM_HUGEPAGES hugepages: more memory"
}

# Runs $VM_DIRECTORY/run/$1.sh as the leader of a session. What a shell starts in the background
# ignores SIGINT and SIGQUIT, and only env can undo that.
run() {
    base=$VM_DIRECTORY/run/$1
    setsid chroot /new /usr/bin/env -i --default-signal=INT,QUIT /bin/bash "$base.sh" \
        < /dev/null > "/new$base.out" 2> "/new$base.err" 3<&- &
    echo "started $1 $!" >&3
    wait $!
    echo "exited $1 $?" >&3
}

serve() {
    echo exited boot 0 >&3
    while read -r verb first second <&3; do
        case $verb in
            run) run "$first" & ;;
            kill) kill "-$first" "$second" ;;
        esac
    done
    die "the host hung up"
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module" || echo "vm_init: insmod $module failed"; done
set_hugepages
mount_root
ip link set lo up
for nic in $(echo "$VM_NICS" | tr , ' '); do bind_nic "$nic"; done
port=$(grep -lx control /sys/class/virtio-ports/*/name)
[ -n "$port" ] || die "no control port"
exec 3<> "/dev/$(basename "$(dirname "$port")")" || die "control port"
serve &
while :; do wait; done # reaps orphans too
