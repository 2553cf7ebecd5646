package spawn

import (
	"syscall"
	"unsafe"
)

const (
	regionSize  = 4 << 20        // address space for programs and files; memory only where it is used
	programSize = regionSize / 2 // at most; files are in the other half
	maxFiles    = 253            // SCM_MAX_FD of the kernel

	cloneParent     = 0x8000
	cloneIntoCgroup = 0x200000000
	setMask         = 2

	templateSocket = 3 // of the template
	firstReceived  = 4 // a request's fds, in their order: the child's socket, its cgroup, its files

	// Numbers that are the same on every port.
	sysClone3     = 435
	sysCloseRange = 436

	prSetParentDeath = 1
	prSetDumpable    = 4
	prSetName        = 15

	noReplace = 0x100000 // MAP_FIXED_NOREPLACE
)

// boardSize is that of a board, in whole pages.
const boardSize = (unsafe.Sizeof(board{}) + largestPage - 1) &^ (largestPage - 1)

// largestPage is the largest that a kernel of our ports has: arm64 knows pages of 4, 16
// and 64 KiB. What a child maps over must begin with a page, whichever it is.
const largestPage = 64 << 10

type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// A request is what a template is asked, with the files beside it. More than
// maxFiles take several messages.
type request struct {
	intoCgroup uint32 // the second file is a cgroup
	more       uint32 // another message has the next files
	top        uint32 // the number above all files, if they have all come
}

type reply struct {
	pid   int32
	errno uint32
	base  uint64 // where a child puts its programs
}

type iovec struct{ base, len uintptr }

type msghdr struct {
	name       uintptr
	namelen    uint32
	iov        uintptr
	iovlen     uintptr
	control    uintptr
	controllen uintptr
	flags      uint32
}

// cmsgSize is that of a struct cmsghdr, on whose end the fds follow.
const cmsgSize = 16

// board is what a template and its children write in, besides their stack: memory
// that Go's collector knows nothing of. So it holds no pointers. A child's programs
// come behind it.
type board struct {
	in       msghdr
	inIov    iovec
	control  [cmsgSize + 4*(maxFiles+1)]byte
	request  request
	reply    reply
	clone    cloneArgs
	frame    Frame
	round    uintptr
	slot     [slots]uintptr
	arg      [6]uintptr
	name     [16]byte
	visible  uintptr        // 1: a child may be looked at by others of its user
	files    uintptr        // the number above all that supervisord may have open
	action   [8]uint64      // a struct sigaction of zeros: SIG_DFL
	none     uint64         // a signal mask
	stack    [2]uintptr     // what is left of the stack
	unmapped uintptr        // how many of
	unmap    [96][2]uintptr // the memory that a template does without
}

// deep is more stack than serve and what it calls use, or the linker refuses them.
const deep = 2048

// above is more stack than there is of forkTemplate's above its variables.
const above = 256

// forkTemplate forks this thread alone.
//
//go:noinline
//go:nosplit
//go:norace
//go:nocheckptr
func forkTemplate(b *board, socket, null uintptr) (uintptr, syscall.Errno) {
	var all, old uint64
	all = ^all
	if at := uintptr(unsafe.Pointer(&all)); b.unmapped > 0 && (at < b.stack[0]+deep || at > b.stack[1]-deep) {
		return 0, syscall.ESTALE
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && e == 0 {
		b.strip(socket, null)
		b.wipe(b.stack[0], uintptr(unsafe.Pointer(&all))-deep)
		b.wipe(uintptr(unsafe.Pointer(&all))+above, b.stack[1])
		b = b.move()
		b.serve() // which returns in its children alone
		run(b, unsafe.Add(unsafe.Pointer(b), boardSize))
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	return pid, e
}

// wipe clears what of the stack's pages a template does not use: supervisord's frames, and
// what is beside its stack in the heap.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *board) wipe(from, to uintptr) {
	if b.unmapped == 0 { // then all of the memory is there
		return
	}
	for from = (from + 7) &^ 7; from+8 <= to; from += 8 {
		*(*uint64)(unsafe.Add(unsafe.Pointer(b), from-uintptr(unsafe.Pointer(b)))) = 0
	}
}

// move puts the board next to the stack, where it takes no page tables of its own:
// these are most of what a fork costs. Where there is no room it stays.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *board) move() *board {
	to := b
	if b.unmapped > 0 {
		const readWrite, private = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_PRIVATE | syscall.MAP_ANON
		at, _, e := syscall.RawSyscall6(syscall.SYS_MMAP, b.stack[1], boardSize+regionSize, readWrite, private|noReplace, ^uintptr(0), 0)
		if e == 0 {
			to = (*board)(unsafe.Add(unsafe.Pointer(b), at-uintptr(unsafe.Pointer(b))))
			for i := uintptr(0); i < unsafe.Sizeof(*b); i += unsafe.Sizeof(i) {
				*(*uintptr)(unsafe.Add(unsafe.Pointer(to), i)) = *(*uintptr)(unsafe.Add(unsafe.Pointer(b), i))
			}
			syscall.RawSyscall6(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(b)), boardSize+regionSize, 0, 0, 0, 0)
		}
	}
	to.in.iov, to.in.iovlen = uintptr(unsafe.Pointer(&to.inIov)), 1
	to.in.control = uintptr(unsafe.Pointer(&to.control))
	to.reply.base = uint64(uintptr(unsafe.Pointer(to)) + boardSize)
	return to
}

// serve is the life of a template: it forks as it is told, until nobody is there
// who could tell it.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *board) serve() {
	top := uintptr(firstReceived)
	for {
		b.inIov.base, b.inIov.len = uintptr(unsafe.Pointer(&b.request)), unsafe.Sizeof(b.request)
		b.in.controllen = unsafe.Sizeof(b.control)
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVMSG, templateSocket, uintptr(unsafe.Pointer(&b.in)), syscall.MSG_CMSG_CLOEXEC, 0, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 || n != unsafe.Sizeof(b.request) {
			quit(0)
		}
		if b.in.controllen > cmsgSize {
			top += (*(*uintptr)(unsafe.Pointer(&b.control)) - cmsgSize) / 4
		}
		if b.request.more != 0 {
			continue
		}
		b.reply.pid, b.reply.errno = 0, uint32(syscall.EMFILE) // there was no room for all
		if top == uintptr(b.request.top) && b.fork() {
			return
		}
		for ; top > firstReceived; top-- { // before the answer: then nobody else holds them
			syscall.RawSyscall6(syscall.SYS_CLOSE, top-1, 0, 0, 0, 0, 0)
		}
		send(templateSocket, uintptr(unsafe.Pointer(&b.reply)), unsafe.Sizeof(b.reply))
	}
}

// fork makes a child, which is a child of supervisord's, and puts down what to
// reply. It is true in the child.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *board) fork() bool {
	b.clone.flags = cloneParent
	if b.request.intoCgroup != 0 {
		b.clone.flags |= cloneIntoCgroup
		b.clone.cgroup = firstReceived + 1
	}
	if b.visible != 0 { // the child has it from us
		syscall.RawSyscall6(syscall.SYS_PRCTL, prSetDumpable, 1, 0, 0, 0, 0)
	}
	pid, _, e := syscall.RawSyscall6(sysClone3, uintptr(unsafe.Pointer(&b.clone)), unsafe.Sizeof(b.clone), 0, 0, 0, 0)
	if b.request.intoCgroup == 0 && (e == syscall.ENOSYS || e == syscall.EPERM) { // it is filtered
		pid, _, e = syscall.RawSyscall6(syscall.SYS_CLONE, cloneParent, 0, 0, 0, 0, 0)
	}
	if b.visible != 0 && (pid != 0 || e != 0) {
		syscall.RawSyscall6(syscall.SYS_PRCTL, prSetDumpable, 0, 0, 0, 0, 0)
	}
	b.reply.pid, b.reply.errno = int32(pid), uint32(e)
	return pid == 0 && e == 0
}

// strip takes away what a template has from supervisord: files, memory, session,
// name, and what signals do. They stay blocked. The files that it needs are moved by
// calls that need no number of their own: there may be none left.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *board) strip(socket, null uintptr) {
	for fd := uintptr(0); fd < templateSocket; fd++ {
		syscall.RawSyscall6(syscall.SYS_DUP3, null, fd, 0, 0, 0, 0)
	}
	if socket != templateSocket {
		syscall.RawSyscall6(syscall.SYS_DUP3, socket, templateSocket, syscall.O_CLOEXEC, 0, 0, 0)
	}
	if _, _, e := syscall.RawSyscall6(sysCloseRange, templateSocket+1, 1<<32-1, 0, 0, 0, 0); e != 0 { // it is filtered
		for fd := uintptr(templateSocket + 1); fd < b.files; fd++ {
			syscall.RawSyscall6(syscall.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
		}
	}
	for i := uintptr(0); i < b.unmapped && i < uintptr(len(b.unmap)); i++ {
		syscall.RawSyscall6(syscall.SYS_MUNMAP, b.unmap[i][0], b.unmap[i][1], 0, 0, 0, 0)
	}
	for sig := uintptr(1); sig <= 64; sig++ { // EINVAL for those that cannot be set
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&b.action)), 0, 8, 0, 0)
	}
	syscall.RawSyscall6(syscall.SYS_SETSID, 0, 0, 0, 0, 0, 0)
	// One that is stopped would not see the end of its socket. The signal comes with
	// the end of the thread that forked us, which is that of supervisord: Go ends none
	// earlier, and if it did, another template would take our place. No child has it.
	syscall.RawSyscall6(syscall.SYS_PRCTL, prSetParentDeath, uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	syscall.RawSyscall6(syscall.SYS_PRCTL, prSetDumpable, 0, 0, 0, 0, 0)
	syscall.RawSyscall6(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(&b.name)), 0, 0, 0, 0)
}
