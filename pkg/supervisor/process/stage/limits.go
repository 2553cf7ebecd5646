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
	for _, l := range s.task.Limits {
		if memory(l) {
			var now Limit
			if err := getLimit(l.Resource, &now); err != nil {
				return fail(err, limitName(l))
			}
			now.Hard = max(now.Hard, l.Hard)
			l = now
		}
		if err := setClosest(l); err != nil {
			return fail(err, limitName(l))
		}
	}
	return Failure{}
}

func (s *stage) setMemoryLimits() Failure {
	for _, l := range s.task.Limits {
		if !memory(l) {
			continue
		}
		if err := setClosest(l); err != nil {
			return fail(err, limitName(l))
		}
	}
	return Failure{}
}

func memory(l Limit) bool {
	return l.Resource == syscall.RLIMIT_AS || l.Resource == syscall.RLIMIT_DATA || l.Resource == syscall.RLIMIT_STACK
}

// setClosest sets l, or what comes closest to it when it may not be raised so
// far (as systemd does).
func setClosest(l Limit) error {
	err := setLimit(l)
	if err != syscall.EPERM {
		return err
	}
	var now Limit
	if err := getLimit(l.Resource, &now); err != nil {
		return err
	}
	l.Hard = min(l.Hard, now.Hard)
	l.Soft = min(l.Soft, l.Hard)
	return setLimit(l)
}

// limitName is what the failure's detail says: which limit, as setrlimit(2)
// numbers it.
func limitName(l Limit) string { return "resource " + decimal(int64(l.Resource)) }
