package socket

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This is what steering needs of bpf(2). By hand it is four commands and 45 kB of a
// binary; a library would be a tenth of all of supervisord. The structures are parts of
// union bpf_attr in linux/bpf.h, as far as we set them: the kernel takes what is left
// out as zero.

const (
	bpfMapCreate, bpfMapLookup, bpfMapUpdate, bpfProgLoad = 0, 1, 2, 5

	mapArray, mapSockets             = 2, 20  // BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY
	typeReuseport, selectOrMigrate   = 21, 40 // BPF_PROG_TYPE_SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT_OR_MIGRATE
	helperLookup, helperSelectSocket = 1, 82  // bpf_map_lookup_elem, bpf_sk_select_reuseport
)

type mapCreate struct {
	kind, keySize, valueSize, entries uint32
	_                                 [3]uint32 // flags, inner map, NUMA node
	name                              [16]byte
}

type mapElement struct {
	fd, _         uint32
	key, value, _ uint64 // flags: BPF_ANY
}

type progLoad struct {
	kind, count           uint32
	instructions, license uint64
	logLevel, logSize     uint32
	log                   uint64
	_                     [2]uint32 // kernel version, flags
	name                  [16]byte
	_, attachType         uint32 // device
}

// bpfTries bounds how often the kernel may ask us to try again. The verifier does when
// a signal is pending, and the runtime of Go sends itself many.
const bpfTries = 1000

func bpf[T any](command int, attr *T) (int, error) {
	var errno unix.Errno
	for range bpfTries {
		var n uintptr
		n, _, errno = unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EAGAIN && errno != unix.EINTR {
			break
		}
	}
	return -1, errno
}

// pointer is an address as the kernel wants it on machines of any width. What it leads
// to stays where it is until p is unpinned.
func pointer[T any](p *runtime.Pinner, v *T) uint64 {
	p.Pin(v)
	return uint64(uintptr(unsafe.Pointer(v)))
}

// bpfName is how bpftool(8) shows what is ours.
var bpfName = [16]byte{'s', 'u', 'p', 'e', 'r', 'v', 'i', 's', 'o', 'r', 'd'}

// newMap makes a map with keys of 32 bits. Its descriptor is closed on exec, as all are
// that bpf(2) returns.
func newMap(kind, valueSize, entries uint32) (int, error) {
	fd, err := bpf(bpfMapCreate, &mapCreate{kind: kind, keySize: 4, valueSize: valueSize, entries: entries, name: bpfName})
	if err != nil {
		return -1, fmt.Errorf("cannot create a BPF map: %w", err)
	}
	return fd, nil
}

// put sets an element of a map, whether it has one or not.
func put[T any](fd int, key uint32, value *T) error { return element(bpfMapUpdate, fd, key, value) }

func get[T any](fd int, key uint32, value *T) error { return element(bpfMapLookup, fd, key, value) }

func element[T any](command, fd int, key uint32, value *T) error {
	var p runtime.Pinner
	defer p.Unpin()
	_, err := bpf(command, &mapElement{fd: uint32(fd), key: pointer(&p, &key), value: pointer(&p, value)})
	return err
}

// load loads a program. If the verifier refuses it, it is asked why.
func load(program []instruction) (int, error) {
	var p runtime.Pinner
	defer p.Unpin()
	license := []byte("MIT\x00") // no helper that we call is for the GPL alone
	attr := &progLoad{
		kind: typeReuseport, attachType: selectOrMigrate, name: bpfName,
		count: uint32(len(program)), instructions: pointer(&p, &program[0]), license: pointer(&p, &license[0]),
	}
	fd, err := bpf(bpfProgLoad, attr)
	if err == nil {
		return fd, nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EACCES) { // it was not the verifier
		return -1, fmt.Errorf("cannot load the steering program: %w", err)
	}
	log := make([]byte, 64<<10)
	attr.logLevel, attr.logSize, attr.log = 1, uint32(len(log)), pointer(&p, &log[0])
	if fd, again := bpf(bpfProgLoad, attr); again == nil {
		return fd, nil
	}
	if why := lastLines(log); why != "" {
		return -1, fmt.Errorf("cannot load the steering program: %w: %s", err, why)
	}
	return -1, fmt.Errorf("cannot load the steering program: %w", err)
}

// lastLines is how the verifier's log ends.
func lastLines(log []byte) string {
	text, _, _ := strings.Cut(string(log), "\x00")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// Steerable says why supervisord cannot steer here, and what would help; nil: it can.
// It needs CAP_BPF in the first user namespace, which root has, and Linux 5.14. It tries
// once, by making what a ring is made of.
var Steerable = sync.OnceValue(func() error { return unsteerable(tryProgram()) })

func tryProgram() error {
	sockets, err := newMap(mapSockets, 8, 1)
	if err != nil {
		return err
	}
	defer closeFD(sockets)
	deal, err := newMap(mapArray, uint32(unsafe.Sizeof(cards{})), 1)
	if err != nil {
		return err
	}
	defer closeFD(deal)
	program, err := load(steering(deal, sockets))
	if err == nil {
		closeFD(program)
	}
	return err
}

// unsteerable has an error of bpf(2) say what would help.
func unsteerable(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w", forbidden(mayBPF(), inUserNamespace("/proc/self/ns/user")), err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("steering needs a kernel with bpf(2) (CONFIG_BPF_SYSCALL): %w", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("steering needs Linux 5.14, and a security policy that lets supervisord load BPF programs: %w", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("steering needs Linux 5.14: %w", err)
	}
	return err
}

// forbidden says what the kernel misses.
func forbidden(may, inNamespace bool) string {
	switch {
	case inNamespace:
		return "steering needs CAP_BPF outside of user namespaces, so a rootless container cannot have it"
	case !may:
		return "steering needs CAP_BPF, which root has, but in a container only with --cap-add BPF"
	}
	return "steering needs CAP_BPF, which is there, and a seccomp profile that lets bpf(2) pass"
}

// mayBPF tells whether this process has the capability, in its own user namespace.
func mayBPF() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return true // nobody knows
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	return has(unix.CAP_BPF) || has(unix.CAP_SYS_ADMIN)
}

// inUserNamespace tells whether capabilities are worth nothing to bpf(2): it asks for
// them in the first user namespace, which the kernel gives a number of its own.
func inUserNamespace(proc string) bool {
	const first = 0xEFFFFFFD // PROC_USER_INIT_INO in linux/proc_ns.h
	var st unix.Stat_t
	return unix.Stat(proc, &st) == nil && st.Ino != first
}
