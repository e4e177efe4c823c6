"""What readers, writers and ledgers share about a database: connect, classify errors, checkpoint rows."""
