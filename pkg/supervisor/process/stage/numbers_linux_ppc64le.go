package stage

import "syscall"

const (
	sysExecveat  = 362
	sysSetgroups = syscall.SYS_SETGROUPS
	sysGetgroups = syscall.SYS_GETGROUPS
	sysSetresuid = syscall.SYS_SETRESUID
	sysGetresuid = syscall.SYS_GETRESUID
	sysSetresgid = syscall.SYS_SETRESGID
	sysGetresgid = syscall.SYS_GETRESGID
)
