package unit

// The end of supervisord is a state, not an order of events: whoever comes late,
// like the start of a boot that is still under way, is refused by it.

// forbids says why a verb is not taken at all, if it is not.
func (s Service) forbids(v Verb) Reason {
	switch {
	case v == End:
	case s.Want == Ended:
		return WhyEnding
	case s.Removed && v != Stop:
		return WhyRemoved
	}
	return ""
}

// leaves: it ends when no process is left.
func (v Verb) leaves() bool { return v == Stop || v == End }

// depart is a stop for good.
func (t *turn) depart() {
	t.stop()
	t.Want = Ended
}
