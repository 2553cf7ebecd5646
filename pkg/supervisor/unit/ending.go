package unit

// The end of supervisord is a state, not an order of events: whoever comes late,
// like the start of a boot that is still under way, is refused by it.

// forbids says why a verb is not taken at all, if it is not. One that comes without
// the build that it needs was asked for when the files had just lost the service.
func (s Service) forbids(v Verb, b *Build) Reason {
	switch {
	case v == End:
	case s.Want == Ended:
		return WhyEnding
	case s.Removed && v != Stop, b == nil && v.builds():
		return WhyRemoved
	}
	return ""
}

// builds: it runs a build that comes with it.
func (v Verb) builds() bool { return v == Start || v == Restart || v == Reload }

// leaves: it ends when no process is left.
func (v Verb) leaves() bool { return v == Stop || v == End }

// depart is a stop for good.
func (t *turn) depart() {
	t.stop()
	t.Want = Ended
}
