// Package forbid makes system calls fail, as the seccomp profile of a container does.
// It is for tests.
package forbid

import (
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call says that a system call fails with errno; with flags, only one whose first
// argument these are.
func Call(number int, errno syscall.Errno, flags ...int) string {
	s := strconv.Itoa(number) + ":" + strconv.Itoa(int(errno))
	for _, f := range flags {
		s += ":" + strconv.Itoa(f)
	}
	return s
}

// Calls makes calls fail in this process and in all that it starts: what [Call] says,
// separated by commas. It cannot be undone (seccomp(2)).
func Calls(calls string) error {
	const (
		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		ifEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer  = unix.BPF_RET | unix.BPF_K

		allow, errno     = 0x7fff0000, 0x00050000
		number, argument = 0, 16 // in struct seccomp_data
		allThreads       = 1
	)
	var program []unix.SockFilter
	for call := range strings.SplitSeq(calls, ",") {
		n, err := numbers(call)
		if err != nil {
			return err
		}
		program = append(program, unix.SockFilter{Code: load, K: number})
		if len(n) == 2 {
			program = append(program, unix.SockFilter{Code: ifEqual, Jf: 1, K: n[0]})
		} else {
			program = append(program, unix.SockFilter{Code: ifEqual, Jf: 3, K: n[0]},
				unix.SockFilter{Code: load, K: argument}, unix.SockFilter{Code: ifEqual, Jf: 1, K: n[2]})
		}
		program = append(program, unix.SockFilter{Code: answer, K: errno | n[1]})
	}
	program = append(program, unix.SockFilter{Code: answer, K: allow})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, allThreads, uintptr(unsafe.Pointer(&p))); e != 0 {
		return e
	}
	return nil
}

func numbers(call string) (n []uint32, err error) {
	for field := range strings.SplitSeq(call, ":") {
		v, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			return nil, err
		}
		n = append(n, uint32(v))
	}
	if len(n) < 2 {
		return nil, strconv.ErrSyntax
	}
	return n, nil
}
