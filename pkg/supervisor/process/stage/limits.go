package stage

import "syscall"

// restoreFileLimit undoes what package os did before us: it raises the soft
// limit of files to the hard one. syscall.Exec puts the old one back before it
// tries; this try is of a file that cannot be.
func restoreFileLimit() { syscall.Exec("", []string{""}, nil) }

// setLimits sets the limits while we may still raise them. Those of memory
// would bind the stage, which is a larger program than most, so of them only
// the hard limit is raised here; setMemoryLimits does the rest.
func (s *stage) setLimits() Failure {
	restoreFileLimit()
	s.setCoreLimit()
	for _, l := range s.task.Limits {
		isMemory := memory(l)
		if isMemory {
			var now Limit
			if err := getLimit(l.Resource, &now); err != nil {
				return fail(err, limitName(l))
			}
			now.Hard = max(now.Hard, l.Hard)
			l = now
		}
		if err := s.setClosest(l, !isMemory); err != nil {
			return fail(err, limitName(l))
		}
	}
	return Failure{}
}

// setCoreLimit gives the kernel's own default: no core dumps, and the right to
// ask for them.
func (s *stage) setCoreLimit() {
	if !s.task.Defaults {
		return
	}
	for _, l := range s.task.Limits {
		if l.Resource == syscall.RLIMIT_CORE {
			return
		}
	}
	const infinity = 1<<64 - 1
	s.setClosest(Limit{Resource: syscall.RLIMIT_CORE, Hard: infinity}, false)
}

func (s *stage) setMemoryLimits() Failure {
	for _, l := range s.task.Limits {
		if !memory(l) {
			continue
		}
		if err := s.setClosest(l, true); err != nil {
			return fail(err, limitName(l))
		}
	}
	return Failure{}
}

func memory(l Limit) bool {
	return l.Resource == syscall.RLIMIT_AS || l.Resource == syscall.RLIMIT_DATA || l.Resource == syscall.RLIMIT_STACK
}

// setClosest sets l, or what comes closest to it when it may not be raised so
// far (as systemd does), and warns of that.
func (s *stage) setClosest(l Limit, warn bool) error {
	err := setLimit(l)
	if err != syscall.EPERM {
		return err
	}
	var now Limit
	if err := getLimit(l.Resource, &now); err != nil {
		return err
	}
	if warn {
		s.warn(Warning{Step: Limits, Resource: l.Resource, Soft: l.Soft, Hard: l.Hard, Got: now.Hard, Errno: syscall.EPERM})
	}
	l.Hard = min(l.Hard, now.Hard)
	l.Soft = min(l.Soft, l.Hard)
	return setLimit(l)
}

// limitName is what the failure's detail says: which limit, as setrlimit(2)
// numbers it.
func limitName(l Limit) string { return "resource " + decimal(int64(l.Resource)) }
