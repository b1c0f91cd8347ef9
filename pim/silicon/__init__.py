"""The cost model against published chips: `pim.validate`, its table and its figures."""
