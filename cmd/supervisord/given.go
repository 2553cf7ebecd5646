package main

// releaseGiven closes what systemd gave and no socket of the configuration takes,
// and says so. That is no reason not to serve the others. systemd still has it: its
// clients wait there. What may belong to a unit that was set aside is kept, for the
// configuration that mends it.
func (d *assembly) releaseGiven() {
	note, given := "kept: it may belong to what has an error in the configuration", d.table.Unclaimed()
	if len(d.config.Aside)+len(d.config.Degraded) == 0 {
		note, given = "closed: systemd still has it, and whoever connects waits", d.table.CloseUnclaimed()
	}
	for _, g := range given {
		d.log.Warn().Str("note", note).Msg(g.Unused().Error())
	}
}
