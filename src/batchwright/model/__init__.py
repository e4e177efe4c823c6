"""The nouns of batchwright: frozen data, enums, errors and the codec. No I/O, standard library only."""
