"""Task tables, the list scheduler, timelines and the evaluation of one workload on one machine."""
