"""The parts of the research agent: where its sources are, how it ranks, reads, condenses and writes."""
