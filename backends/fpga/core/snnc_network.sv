// The core with the sizes of one network, from network.vh; the images lie beside it.
`default_nettype none
`include "network.vh"

module snnc_network (
    input  wire        clk,
    input  wire        rst,
    input  wire [15:0] s_tdata,
    input  wire        s_tvalid,
    input  wire        s_tlast,
    output wire        s_tready,
    output wire [31:0] m_tdata,
    output wire        m_tvalid,
    output wire        m_tlast,
    input  wire        m_tready,
    output wire        mark,
    output wire [15:0] mark_id
);
    snnc_core #(
        .LANES(`SNNC_LANES), .SW(`SNNC_SW), .IW(`SNNC_IW), .VW(`SNNC_VW), .NW(`SNNC_NW), .AW(`SNNC_AW),
        .PROGRAM_DEPTH(`SNNC_PROGRAM), .WEIGHT_DEPTH(`SNNC_WEIGHTS), .HEAD_DEPTH(`SNNC_HEADS),
        .ROW_DEPTH(`SNNC_ROWS), .COLUMN_DEPTH(`SNNC_COLUMNS), .PARAMETER_DEPTH(`SNNC_PARAMETERS),
        .POTENTIAL_DEPTH(`SNNC_POTENTIALS), .COUNT_DEPTH(`SNNC_COUNTS), .SPIKE_DEPTH(`SNNC_SPIKES),
        .INPUT_DEPTH(`SNNC_INPUTS), .STEPS(`SNNC_STEPS), .MAXIMA(`SNNC_MAXIMA)
    ) core (
        .clk(clk), .rst(rst), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tlast(s_tlast), .s_tready(s_tready),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tlast(m_tlast), .m_tready(m_tready), .mark(mark),
        .mark_id(mark_id)
    );
endmodule

`default_nettype wire
