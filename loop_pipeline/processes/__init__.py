"""The processes of one home: started together, kept running, shown, ended in order."""
