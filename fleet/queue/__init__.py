"""The queue library: jobs in, jobs out.  It knows no manifest, no supervisord and no screen."""
