package stage

import "syscall"

// setGroups and setUser each check what they did: a call that says it worked
// and did not would leave the program with root's rights.

func (s *stage) setGroups() Failure {
	if !s.task.SetIDs {
		return Failure{}
	}
	if err := setgroups(s.task.Groups); err != nil {
		return fail(err, decimal(int64(s.task.GID)))
	}
	if err := setIDs(sysSetresgid, s.task.GID); err != nil {
		return fail(err, decimal(int64(s.task.GID)))
	}
	if !hasIDs(sysGetresgid, s.task.GID) || !hasGroups(s.task.Groups) {
		return fail(syscall.EPERM, decimal(int64(s.task.GID)))
	}
	return Failure{}
}

func (s *stage) setUser() Failure {
	if !s.task.SetIDs {
		return Failure{}
	}
	if err := setIDs(sysSetresuid, s.task.UID); err != nil {
		return fail(err, decimal(int64(s.task.UID)))
	}
	if !hasIDs(sysGetresuid, s.task.UID) {
		return fail(syscall.EPERM, decimal(int64(s.task.UID)))
	}
	return Failure{}
}

// noID is the number that means "leave it" to setresuid(2), which then succeeds.
const noID = 1<<32 - 1

// setIDs sets real, effective and saved id of this thread. That of the other
// threads does not matter: they end when this one executes the program.
func setIDs(call uintptr, id uint64) error {
	if id >= noID {
		return syscall.EINVAL
	}
	if _, _, errno := syscall.RawSyscall(call, uintptr(id), uintptr(id), uintptr(id)); errno != 0 {
		return errno
	}
	return nil
}

func hasIDs(call uintptr, id uint64) bool {
	r, e, s, err := getIDs(call)
	want := uint32(id)
	return err == nil && r == want && e == want && s == want
}

func hasGroups(want []uint64) bool {
	got, err := getgroups()
	if err != nil || len(got) != len(want) {
		return false
	}
	for _, g := range want {
		if !contains(got, uint32(g)) {
			return false
		}
	}
	return true
}

func contains(groups []uint32, g uint32) bool {
	for _, have := range groups {
		if have == g {
			return true
		}
	}
	return false
}

// dropCapabilities empties the inheritable and ambient sets, which survive a
// change of user. What is permitted and effective went with root's id; if the id
// stays, execve computes it from the id and the file.
func (s *stage) dropCapabilities() Failure {
	caps, err := capget()
	if err != nil {
		return fail(err, "")
	}
	caps[0].inheritable, caps[1].inheritable = 0, 0 // ambient is a subset, and follows
	if err := capset(caps); err != nil {
		return fail(err, "")
	}
	if err := prctl(prCapAmbient, capAmbientClearAll, 0); err != nil && err != syscall.EINVAL { // EINVAL: before Linux 4.3
		return fail(err, "")
	}
	if caps, err = capget(); err == nil && (caps[0].inheritable != 0 || caps[1].inheritable != 0) {
		err = syscall.EPERM
	}
	return fail(err, "")
}
