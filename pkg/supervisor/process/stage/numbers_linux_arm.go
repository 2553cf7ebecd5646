package stage

import "syscall"

const (
	sysExecveat  = 387
	sysSetgroups = syscall.SYS_SETGROUPS32
	sysGetgroups = syscall.SYS_GETGROUPS32
	sysSetresuid = syscall.SYS_SETRESUID32
	sysGetresuid = syscall.SYS_GETRESUID32
	sysSetresgid = syscall.SYS_SETRESGID32
	sysGetresgid = syscall.SYS_GETRESGID32
)
