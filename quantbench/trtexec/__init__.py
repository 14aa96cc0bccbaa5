"""trtexec's command lines, read and written: every flag of versions 8 to 11, and what does its work here."""
